"""The one reader of labels: class numbers, one-hot rows and multi-hot rows become checked NumPy arrays.

`tensors.py` is its counterpart for labels inside a training step, where values cannot be checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain

UNLABELED = -1
"""The class number of a missing label; `keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)` skips it."""

_NUMBER_CLASSES = "Number the classes from 0, as np.unique(y, return_inverse=True)[1] does."

MAX_CLASSES = 2**20
"""Class numbers from here on are refused: a name and a one-hot column for each class have to fit into memory."""


def label_array(labels: Any, what: str = "y") -> np.ndarray:
    """Labels as an array `[n, ...]`.

    Raises:
        ConfigurationError: rows of different lengths, or no array at all.
    """
    try:
        array = np.asarray(labels)
    except ValueError:
        raise _unusable(
            f"Rows of different lengths in {what}.",
            f"a {type(labels).__name__} of rows",
            "rows of one length",
            "Pad them, and mark the padding as missing (-1).",
        ) from None
    if array.ndim == 0:
        received = f"{type(labels).__name__} {labels!r}"
        raise _unusable(f"Invalid labels in {what}.", received, "one label per example, [n] or [n, ...]")
    return array


def is_one_hot(labels: np.ndarray) -> bool:
    """Whether each row of `[..., C]`, C at least 2, has a single 1 among zeros.

    >>> is_one_hot(np.array([[0, 1], [1, 0]])), is_one_hot(np.array([[1, 1], [1, 0]]))
    (True, False)
    """
    labels = np.asarray(labels)
    if labels.ndim < 2 or labels.shape[-1] < 2 or labels.dtype.kind not in "biuf":
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all())


def class_numbers(
    labels: Any,
    positions: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    *,
    what: str = "y",
    missing: bool = True,
) -> np.ndarray:
    """Class numbers, int64 `positions`, with -1 where a label is missing.

    Args:
        labels: whole numbers of any dtype, shape `positions` or `[*positions, 1]`; or one-hot rows `[*positions, C]`,
            in which a row of zeros is a missing label.
        positions: the shape of what has one class each, such as `(n,)` examples or `(n, height, width)` pixels; None
            takes the shape of the labels, less an axis of one-hot rows.
        num_classes: C; None allows any number below `MAX_CLASSES`.
        what: the name of the labels in errors.
        missing: whether labels may be missing.

    Raises:
        ConfigurationError: another shape, fractions, rows that are not one-hot, or numbers out of range.

    >>> class_numbers([[0, 1], [0, 0], [1, 0]]).tolist(), class_numbers([[2], [-1]], (2,)).tolist()
    ([1, -1, 0], [2, -1])
    """
    labels = label_array(labels, what)
    if positions is None:
        positions = labels.shape[:-1] if labels.ndim > 1 else labels.shape
    width = labels.shape[-1] if labels.shape[:-1] == tuple(positions) and labels.ndim == len(positions) + 1 else None
    if width is not None and width > 1 and num_classes in (None, width):
        numbers = _from_one_hot(what, labels)
    elif labels.shape == tuple(positions) or width == 1:
        numbers = _whole(what, labels).reshape(positions)
    else:
        rows = "C" if num_classes is None else str(num_classes)
        raise _unusable(
            f"Invalid shape of labels in {what}.",
            f"shape {labels.shape}",
            f"shape {tuple(positions)}, or one-hot rows {(*positions, rows)}".replace("'", ""),
        )
    check_class_numbers(what, numbers, num_classes, missing=missing)
    return numbers.astype(np.int64)  # only now: 2^64 - 1 would have become -1


def check_class_numbers(what: str, labels: np.ndarray, num_classes: int | None = None, *, missing: bool = True) -> None:
    """Raises `ConfigurationError` with the first row of whole numbers `[n, ...]` that does not name a class.

    Args:
        what: the name of the labels in the error, such as `"y"`.
        labels: whole numbers, of any dtype.
        num_classes: the number of classes; None allows any number below `MAX_CLASSES`.
        missing: whether -1 may stand for a missing label.
    """
    lowest, limit = -1 if missing else 0, MAX_CLASSES if num_classes is None else num_classes
    bad = np.argwhere((labels < lowest) | (labels >= limit))
    if len(bad):
        rows = len(np.unique(bad[:, 0]))
        raise _unusable(
            f"Class numbers out of range in {what}.",
            f"{labels[tuple(bad[0])]} in row {bad[0][0]}" + (f" and {rows - 1} more" if rows > 1 else ""),
            f"integers, 0..{limit - 1}" + (", or -1 for a missing label" * missing),
            _NUMBER_CLASSES if num_classes is None else None,
        )


def multi_hot(labels: Any, num_labels: int | None = None, *, what: str = "y") -> np.ndarray:
    """Float32 `[n, C]` of 1 (the label applies), 0 (it does not) and -1 (it is missing).

    Raises:
        ConfigurationError: another shape, or other values.

    >>> multi_hot([[1, 0, -1]]).tolist()
    [[1.0, 0.0, -1.0]]
    """
    labels = label_array(labels, what)
    if labels.ndim != 2 or num_labels not in (None, labels.shape[1]):
        columns = "C" if num_labels is None else num_labels
        raise _unusable(
            f"Invalid multi-hot labels in {what}.", f"shape {labels.shape}", f"one row per example, [n, {columns}]"
        )
    known = np.isin(labels, (0, 1, UNLABELED))
    if not known.all():
        row, column = np.argwhere(~known)[0]
        raise _unusable(
            f"Invalid multi-hot labels in {what}.",
            f"{labels[row, column]} in row {row}",
            "1 where a label applies, 0 where it does not, -1 where it is missing",
        )
    return labels.astype(np.float32)


def real_targets(labels: Any, num_targets: int | None = None, *, what: str = "y") -> np.ndarray:
    """Float32 `[n, d]` from real numbers `[n]` or `[n, d]`, with NaN where a target is missing.

    Raises:
        ConfigurationError: another shape, infinity, or numbers that float32 cannot hold.
    """
    labels = label_array(labels, what)
    if labels.dtype.kind not in "iuf" or labels.ndim not in (1, 2):
        raise _unusable(
            f"Invalid regression targets in {what}.",
            f"shape {labels.shape} of {labels.dtype}",
            "real numbers, shape [n] or [n, d], NaN for a missing one",
        )
    targets = labels[:, None] if labels.ndim == 1 else labels
    if num_targets not in (None, targets.shape[1]):
        raise _unusable(
            f"Invalid number of targets in {what}.", f"{targets.shape[1]} targets", f"{num_targets} targets"
        )
    with np.errstate(over="ignore"):
        targets = targets.astype(np.float32)
    if np.isinf(targets).any():
        row = np.argwhere(np.isinf(targets))[0][0]
        raise _unusable(
            f"Targets out of the range of float32 in {what}.",
            f"infinity or a magnitude above 3.4e38 in row {row}",
            "finite numbers, or NaN",
        )
    return targets


def _from_one_hot(what: str, labels: np.ndarray) -> np.ndarray:
    if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) <= 1).all()):
        raise _unusable(
            f"Invalid class numbers in {what}.", "rows that are not one-hot", "class numbers or one-hot rows"
        )
    return np.where(labels.any(axis=-1), labels.argmax(axis=-1), UNLABELED)


def _whole(what: str, labels: np.ndarray) -> np.ndarray:
    is_number = labels.dtype.kind in "biuf"
    if not is_number or not np.array_equal(labels, np.round(labels)):
        has_nan = labels.dtype.kind == "f" and np.isnan(labels).any()
        raise _unusable(
            f"Invalid class numbers in {what}.",
            f"{labels.dtype} with {'NaN' if has_nan else 'fractions'}" if is_number else f"dtype {labels.dtype}",
            "integers or one-hot rows",
            f"Mark missing labels by {UNLABELED}." if has_nan else None if is_number else _NUMBER_CLASSES,
        )
    return labels


def _unusable(problem: str, received: str, expected: str, fix: str | None = None) -> ConfigurationError:
    return ConfigurationError(explain(problem, received=received, expected=expected, fix=fix))
