"""Atomic file writes, and digests of content.

The only module that renames files and computes hashes. A file is written under a temporary name in its own folder and
then renamed, so that a reader sees either the old or the new content even if the process is killed. A rename alone does
not protect against power loss: readers that depend on the content compare it with a stored digest.

Digests are SHA-256 in hexadecimal. A *fingerprint* is a digest with the prefix `sha256:`, the form in which it is
stored in configurations and shown to users.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.errors import StorageError, explain

_PARTIAL = ".partial-"
_ROWS_AT_ONCE = 4096
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT}


# Writing.


@contextlib.contextmanager
def replacing(file: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yields a temporary path with the extension of `file`; the file written there then replaces `file`.

    Missing folders are created. If the block raises, `file` is unchanged and the temporary file is removed. A killed
    process leaves the temporary file behind; `remove_partial` deletes it.

    Args:
        file: the file to write.
        keep_existing: discard the new content if `file` exists by then.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{_PARTIAL}{uuid.uuid4().hex[:8]}-{file.name}")
    try:
        yield temporary
        if not (keep_existing and _linked(temporary, file)):
            move(temporary, file)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write(file: Path, content: str | bytes, *, keep_existing: bool = False) -> None:
    """Writes bytes, or text as UTF-8, through `replacing`."""
    with replacing(file, keep_existing=keep_existing) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(file: Path, value: Any) -> None:
    """Writes plain data as indented JSON through `replacing`."""
    write(file, json.dumps(value, indent=1) + "\n")


def read_json(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file is missing, damaged, or contains something else."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def move(draft: Path, file: Path) -> None:
    """Renames `draft` to `file` in one step, replacing an existing file."""
    draft.replace(file)


def check_space(file: Path, num_bytes: int) -> None:
    """Raises `OSError` if `file` cannot take this many bytes; leaves no file behind.

    For writers that do not survive a full disk: HDF5 crashes the process when it closes the file.
    """
    try:
        with file.open("wb") as opened:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(opened.fileno(), 0, max(1, num_bytes))
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def remove_partial(folder: Path) -> None:
    """Deletes the temporary files of killed processes in a folder. No other process may be writing there."""
    for file in folder.glob(f"{_PARTIAL}*"):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Replaces the `OSError` of a full or unwritable disk with a `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise StorageError(
            explain(
                f"A file cannot be read or written: {os.strerror(error.errno)}.",
                received=str(error.filename or folder),
                expected="a disk with free space and permission to write",
            )
        ) from error


def _linked(temporary: Path, file: Path) -> bool:
    """Whether `file` exists: it did before, or has just been created as a hard link to `temporary`.

    False only if `file` does not exist and the file system has no hard links.
    """
    try:
        file.hardlink_to(temporary)
    except FileExistsError:
        return True
    except OSError:
        return file.exists()
    return True


# Digests.


def digest(*parts: str | bytes) -> str:
    """The SHA-256 of all parts in order, as 64 hexadecimal digits; text is encoded as UTF-8.

    >>> digest("ab", b"c") == digest("abc")
    True
    """
    return _digest_of(parts)


def digest_of_file(file: Path) -> str:
    """The SHA-256 of a file's content, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest_of_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """The SHA-256 of plain data, independent of the order of keys.

    Args:
        value: anything that `json.dumps` accepts.
        default: converts other objects, as in `json.dumps`.

    >>> digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1})
    True
    """
    return digest(json.dumps(value, sort_keys=True, default=default))


def digest_of_arrays(arrays: Iterable[Any]) -> str:
    """The SHA-256 of the shapes, dtypes and values of arrays, in their order.

    >>> digest_of_arrays([np.zeros(2)]) == digest_of_arrays([np.zeros((2, 1))])
    False
    """
    return _digest_of(part for array in arrays for part in _parts_of_array(array))


def digest_of_named_arrays(arrays: Iterable[tuple[str, Any]]) -> str:
    """The SHA-256 of (name, array) pairs: names, shapes, dtypes and values, independent of the order of the pairs.

    >>> one, other = ("a", np.zeros(2)), ("b", np.ones(2))
    >>> digest_of_named_arrays([one, other]) == digest_of_named_arrays([other, one])
    True
    """
    pairs = sorted(arrays, key=lambda pair: pair[0])
    return _digest_of(part for name, array in pairs for part in (name, *_parts_of_array(array)))


def fingerprint(hexadecimal: str) -> str:
    """A digest in the form that is stored and shown: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hexadecimal}"


def random_key(text: str) -> int:
    """A 64-bit number derived from a text: equal for equal texts, unrelated for others; the seed of a random stream."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _digest_of(parts: Iterable[str | bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
    return total.hexdigest()


def _parts_of_array(array: Any) -> Iterator[str | bytes]:
    """Shape and dtype, then the values; an array on disk is read in pieces."""
    array = np.asarray(array)
    yield f"{array.shape}{array.dtype}"
    rows = np.atleast_1d(array)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        piece = rows[start : start + _ROWS_AT_ONCE]
        yield repr(piece.tolist()) if piece.dtype == object else piece.tobytes()
