"""Caveats shown before the numbers of a report: accuracy at chance, diverged trainings, unfair comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_kd.teachers.calibration import wilson_interval

_TIMES_GUESSING = 10
_FAR_TIMES_GUESSING = 1000


def chance_level(confusion: Any) -> float | None:
    """The accuracy of always predicting the most frequent class, from counts `[true class][predicted class]`.

    >>> chance_level([[5, 1], [0, 4]])
    0.6
    """
    counts = np.asarray(confusion, np.float64)
    return float(counts.sum(axis=1).max() / counts.sum()) if counts.sum() else None


def is_at_chance(accuracy: float, chance: float | None, test_size: int) -> bool:
    """Whether the 95% interval of an accuracy reaches down to `chance`; False if `chance` is unknown.

    >>> is_at_chance(0.12, 0.103, 360), is_at_chance(0.5, 0.103, 360), is_at_chance(0.5, None, 360)
    (True, False, False)
    """
    return chance is not None and wilson_interval(accuracy, test_size)[0] <= chance


def diverged(histories: Mapping[str, Mapping[str, Sequence[float]]], guessing: float | None) -> dict[str, float]:
    """The last supervised loss of each diverged training: far above the loss of guessing, and not decreasing.

    Args:
        histories: by training.
        guessing: the loss of guessing, see `Task.loss_of_guessing`; None uses the first loss of each training.

    >>> diverged({"a": {"loss": [2.0, 5e29]}, "b": {"loss": [30.0, 0.5]}}, guessing=2.3)
    {'a': 5e+29}
    """
    found = {}
    for name, history in histories.items():
        losses = list(history.get("student_loss") or history.get("loss") or ())
        if losses and _is_diverged(losses, guessing):
            found[name] = losses[-1]
    return found


def _is_diverged(losses: Sequence[float | None], guessing: float | None) -> bool:
    first, last = losses[0], losses[-1]
    if last is None or not math.isfinite(last):  # JSON has null for NaN
        return True
    if guessing is None:
        return first is not None and last > _TIMES_GUESSING * first > 0
    if last > _FAR_TIMES_GUESSING * guessing:
        return True
    return last > _TIMES_GUESSING * guessing and (first is None or last >= first)


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The conditions in which two trainings differ, as text.

    >>> unlike({"steps": 34, "views": 2}, {"steps": 34, "views": 8})
    ['views (2; 8)']
    """
    keys = dict.fromkeys([*first, *second])
    return [
        f"{key} ({first.get(key, 'none')}; {second.get(key, 'none')})"
        for key in keys
        if first.get(key) != second.get(key)
    ]
