"""Reads `.keras` files, and refuses damaged ones before Keras builds a model from them."""

from __future__ import annotations

import errno
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import keras

from keras_kd.errors import ConfigurationError, explain, without_colors
from keras_kd.keras_private import limited_variables

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", ("model.weights.h5", "model.weights.npz")
_DAMAGED = "not a .keras file, or a damaged one"
_CAUSE = "Exception encountered: "  # after a page of Keras' configuration
_LINE_LENGTH = 300
_UNPACKED_BYTES = 2**30
_MOST_EXPANDED = 100  # as in Keras
_NOT_SAVED = 2**20  # elements of variables that are not in the file, such as random states


def load_file(path: str | Path) -> keras.Model:
    """A model from a `.keras` file.

    Every member of the archive is read and its checksum compared: Keras skips this for weights that it cannot read at
    once, and would load a file with changed weights. A damaged configuration cannot make Keras reserve more memory than
    the stored weights take.

    Raises:
        ConfigurationError: it is not a `.keras` file, is damaged, or contains classes that this process does not know.
    """
    try:
        with limited_variables(_checked_size(Path(path)) + _NOT_SAVED):
            model = keras.models.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it contains a {type(model).__name__}, not a model")
    except Exception as error:  # broken files raise many kinds of errors in Keras
        raise _refusal(path, error) from error
    return model


def check_file(path: str | Path) -> None:
    """Checks that a file is an undamaged `.keras` file, without building its model.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        _checked_size(Path(path))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def _refusal(path: str | Path, error: Exception) -> ConfigurationError:
    has_code = "safe_mode=False" in str(error)
    return ConfigurationError(
        explain(
            f"the file cannot be loaded: {first_line(error)}.",
            received=str(path),
            expected="what model.save('NAME.keras') writes",
            fix="Code in files is not run: write a registered layer in place of the Lambda." if has_code else None,
        )
    )


def _checked_size(path: Path) -> int:
    """The bytes of the weights in a `.keras` file; raises an error if the archive is damaged."""
    if not path.exists():
        raise ValueError("no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError(_DAMAGED)
    try:
        with zipfile.ZipFile(path) as archive:
            return _check_members(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, IndexError, NotImplementedError, RuntimeError) as error:
        raise ValueError(_DAMAGED) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # of a place before the beginning of the file
            raise ValueError(_DAMAGED) from error
        raise


def _check_members(archive: zipfile.ZipFile) -> int:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a damaged file: it contains a name twice")
    weights = [members[name] for name in _WEIGHTS if name in members]
    if _CONFIG not in members or not weights:
        raise ValueError(f"{_DAMAGED}: it lacks {_CONFIG} or the weights")
    for name, member in members.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise ValueError("it contains names outside of its folder")
        if member.file_size > max(_UNPACKED_BYTES, _MOST_EXPANDED * member.compress_size):
            raise ValueError("a damaged file: it unpacks to much more than its size")
    if archive.testzip() is not None:
        raise ValueError("a damaged file: a checksum in it is wrong")
    if _METADATA in members and not isinstance(json.loads(archive.read(_METADATA)), dict):
        raise ValueError(f"a damaged file: {_METADATA} is not an object")
    return sum(member.file_size for member in weights)


def first_line(error: Exception) -> str:
    """The first line of an error's message on one line without control characters, cut if long.

    >>> first_line(KeyError("layers"))
    "KeyError: 'layers'"
    """
    text = (str(error).rpartition(_CAUSE)[2].strip().splitlines() or [""])[0].rstrip(".,:; ")
    text = "".join(letter if letter.isprintable() else "?" for letter in without_colors(text))
    text = text if len(text) <= _LINE_LENGTH else f"{text[:_LINE_LENGTH]}..."
    return text if isinstance(error, (ImportError, ValueError)) and text else f"{type(error).__name__}: {text}"
