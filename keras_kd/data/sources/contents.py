"""Checks of values and class names before training."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain

_FAR_OUTSIDE = 10.0  # allowed span of images, in widths of the value range; standardized ones span about 5
_PIECE_BYTES = 2**24
_LARGEST = float(np.finfo(np.float32).max)
_NOT_IN_A_LINE = ("Cc", "Zl", "Zp", "Cs")  # control characters, line and paragraph separators, surrogates


def rows_not_finite(values: np.ndarray) -> np.ndarray:
    """The rows of `[n, ...]` that contain NaN, infinity, or a number out of float32 range; int64 `[m]`.

    >>> rows_not_finite(np.array([[0.0, 1.0], [np.nan, 0.0], [1e300, 0.0]])).tolist()
    [1, 2]
    """
    if values.dtype.kind != "f" or not len(values):
        return np.empty(0, np.int64)
    size = max(1, _PIECE_BYTES // max(values[:1].nbytes, 1))  # never loads a whole array from disk
    starts = range(0, len(values), size)
    return np.concatenate([start + _not_finite(np.asarray(values[start : start + size])) for start in starts])


def _not_finite(values: np.ndarray) -> np.ndarray:
    whole = np.isfinite(values)
    if values.dtype.itemsize > 4:
        whole &= np.abs(values) <= _LARGEST
    return np.flatnonzero(~whole.reshape(len(values), -1).all(axis=1))


def check_finite(what: str, values: np.ndarray, ids: Any = None) -> None:
    """Raises `ConfigurationError` with the rows of `values` `[n, ...]` that are not finite.

    Args:
        what: the name of the values, such as "x".
        values: an array of any dtype; only floating-point arrays can fail.
        ids: the id of each row if it is not its position, int64 `[n]`.
    """
    rows = rows_not_finite(values)
    if len(rows):
        raise not_finite(what, rows if ids is None else np.asarray(ids)[rows])


def not_finite(what: str, rows: np.ndarray) -> ConfigurationError:
    """The error for values that are not finite in these rows."""
    named = ", ".join(str(int(row)) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return ConfigurationError(
        explain(
            f"{what} has values that are not finite in float32.",
            received=f"NaN, infinity or more than 3.4e38 in row{'s' if len(rows) > 1 else ''} {named}",
            expected="finite numbers",
            fix="Remove these rows, or replace the values, as np.nan_to_num does.",
        )
    )


def check_pixel_range(what: str, lowest: float, highest: float, value_range: tuple[float, float]) -> None:
    """Raises `ConfigurationError` if floating-point images, which are not scaled, are far outside the range."""
    low, high = value_range
    if max(highest, high) - min(lowest, low) <= _FAR_OUTSIDE * (high - low):
        return
    raise ConfigurationError(
        explain(
            f"The pixels of {what} are far outside 'value_range', and floating-point numbers are not scaled.",
            received=f"values from {lowest:g} to {highest:g}, value_range ({low:g}, {high:g})",
            expected="values in or near the range",
            fix=f"Scale them before saving (x / 255 for pixels of 0..255, or store them as uint8); or, if the model "
            f"expects unscaled pixels, pass value_range=({min(lowest, 0):g}, {highest:g}).",
        )
    )


def check_class_names(names: Sequence[str]) -> None:
    """Raises `ConfigurationError` if names repeat or do not fit on one line each in a label file."""
    for label, name in enumerate(names):
        if not name.strip() or any(unicodedata.category(character) in _NOT_IN_A_LINE for character in name):
            raise _bad_name(
                "A class name does not fit on one line of a label file.",
                f"{name!r}, of label {label}",
                "text without line breaks and other control characters",
            )
    counts = Counter(name.strip() for name in names)
    if repeated := [name for name, count in counts.items() if count > 1]:
        labels = ", ".join(str(label) for label, name in enumerate(names) if name.strip() == repeated[0])
        raise _bad_name(
            "Two classes have the same name.", f"{repeated[0]!r}, of labels {labels}", "a unique name per class"
        )


def _bad_name(problem: str, received: str, expected: str) -> ConfigurationError:
    return ConfigurationError(explain(problem, received=received, expected=expected, fix="Rename the class."))
