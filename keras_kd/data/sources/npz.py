"""Inspects an .npz file: shape, dtype and checksum of each array, and whether its values are valid.

Each array is read once, in pieces: damage is detected before the file is used, and no memory is allocated based on an
unverified header.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data.sources.contents import not_finite, rows_not_finite
from keras_kd.errors import ConfigurationError, explain

NPZ_FORMS = (
    "x_train, y_train[, x_val, y_val][, x_test, y_test][, class_names], or x, y[, class_names]; each x may have "
    "example names beside it, names_train, names_val, names_test or names"
)
_PIECE_ITEMS = 2**20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Header:
    """Metadata of an array in the file; `lowest` and `highest` are its range if floating-point, else 0."""

    shape: tuple[int, ...]
    dtype: np.dtype
    checksum: int
    lowest: float = 0.0
    highest: float = 0.0


def read_headers(path: Path) -> dict[str, Header]:
    """The headers of all arrays in the file, by name.

    Raises:
        ConfigurationError: the file is missing or not an .npz file, or an array is damaged, pickled or not finite.
    """
    if not path.is_file():
        raise ConfigurationError(
            explain(
                ".npz file not found.",
                received=str(path),
                expected=f"a file with {NPZ_FORMS}",
                fix="Relative paths are resolved from the working directory.",
            )
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            return {info.filename.removesuffix(".npy"): _read(path, archive, info) for info in members}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            explain(
                f"The file is not a readable .npz: {error}.",
                received=str(path),
                expected=f"what numpy.savez writes, with {NPZ_FORMS}",
            )
        ) from error


def load(path: Path, key: str) -> np.ndarray:
    """Loads one array of the file.

    Raises:
        ConfigurationError: the array can no longer be read, or contains pickled objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive[key]
    except FileNotFoundError:
        raise
    except (*_UNREADABLE, KeyError) as error:
        raise unreadable(path, key, str(error)) from error


def unreadable(path: Path, key: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"The array {key!r} in {path} cannot be read: {reason}.",
            expected="an array of numbers, or of text with a dtype such as '<U20', as numpy.savez writes it",
            fix="Write the file again. For names, np.array(values, dtype=str); pickled objects are not loaded.",
        )
    )


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as file:
            shape, fortran_order, dtype = _header(file)
            if dtype.hasobject:
                raise unreadable(path, key, "it contains pickled objects")
            if file.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
                raise ValueError(f"its header declares shape {shape} of {dtype}, but it has {info.file_size:,} bytes")
            lowest, highest, bad = _scan(file, dtype, missing=key.startswith("y"))
    except ConfigurationError:
        raise
    except _UNREADABLE as error:
        raise unreadable(path, key, str(error)) from error
    if len(bad):
        raise not_finite(f"{key!r} in {path}", _rows(bad, shape, fortran_order))
    return Header(shape, dtype, info.CRC, lowest, highest)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return read(file)


def _scan(file: Any, dtype: np.dtype, *, missing: bool) -> tuple[float, float, np.ndarray]:
    """The lowest and highest value, and the first positions that are not finite; reading to the end checks the CRC.

    NaN is allowed if values may be `missing`, as in the targets of a regression.
    """
    lowest, highest, place = math.inf, -math.inf, 0
    while content := file.read(_PIECE_ITEMS * max(dtype.itemsize, 1)):
        if dtype.kind != "f":
            continue
        values = np.frombuffer(content, dtype)
        bad = rows_not_finite(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf) if missing else values)
        if len(bad):
            return 0.0, 0.0, place + bad
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        place += len(values)
    return (lowest, highest, np.empty(0)) if place else (0.0, 0.0, np.empty(0))


def _rows(places: np.ndarray, shape: tuple[int, ...], fortran_order: bool) -> np.ndarray:
    """The rows of the values at positions `places` in file order."""
    if not shape:
        return np.zeros(1, np.int64)
    return np.unique(places % shape[0] if fortran_order else places // max(1, math.prod(shape[1:])))
