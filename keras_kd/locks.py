"""A lock on a folder that one process at a time may write to; the system releases it when the process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keras_kd.errors import ConfigurationError, Notice, explain

_NOT_SUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}


@contextlib.contextmanager
def locked(file: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds an advisory lock (`flock`) on `file`, which is created if missing and is not removed.

    If the platform or the file system has no locks, a `Notice` is issued and the work continues without one.

    Args:
        file: the file to lock; it contains the name of the holder meanwhile.
        shared: allow other holders that request a shared lock too.

    Raises:
        ConfigurationError: another process holds it; the message names its id and host.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as opened:
        _take(opened, file, shared)
        _write(opened, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            _write(opened, "")


def _take(opened: IO[str], file: Path, shared: bool) -> None:
    try:
        import fcntl

        fcntl.flock(opened, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.seek(0)
        holder = opened.read().strip() or "another process"
        raise ConfigurationError(
            explain(
                f"{holder} is using this folder.",
                received=str(file.parent),
                expected="a folder that no other process is using",
                fix="Wait until it has finished, or use another folder.",
            )
        ) from None
    except ImportError:
        _warn_without(file, "this platform")
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _warn_without(file, "the file system")


def _warn_without(file: Path, what: str) -> None:
    message = f"{what.capitalize()} has no file locks: make sure that only one process at a time uses {file.parent}."
    warnings.warn(message, Notice, stacklevel=5)


def _write(opened: IO[str], text: str) -> None:
    opened.seek(0)
    opened.truncate()
    opened.write(text)
    opened.flush()
