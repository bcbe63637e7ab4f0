"""Measures of predictions: pure functions on valid NumPy arrays, from scikit-learn wherever it has them.

The tasks select what is labeled and turn outputs into decisions. NaN means that the examples do not define a measure,
such as R^2 of a single example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """One measure of a task, as a report shows it.

    Attributes:
        name: its key in `report.json`.
        title: the heading of its column, without the percent sign.
        compute: from what `Task.scored` returns to a number.
        short: the heading for narrow tables.
        higher_is_better: the direction.
        is_share: whether it lies in 0..1 and is shown in percent.
        is_proportion: whether it is a share of independent examples, so that a binomial interval holds for it.
    """

    name: str
    title: str
    compute: Callable[..., float]
    short: str = ""
    higher_is_better: bool = True
    is_share: bool = False
    is_proportion: bool = False

    @property
    def noun(self) -> str:
        """The title within a sentence: `"mean IoU"`, `"RMSE"`."""
        return self.title if self.title.isupper() else self.title[0].lower() + self.title[1:]


def accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """The share of correct classes `[m]`."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(true, predicted)) if len(true) else math.nan


def macro_f1(predicted: np.ndarray, true: np.ndarray) -> float:
    """F1 averaged over the classes that occur among labels or predictions: `F1 = 2 TP / (2 TP + FP + FN)` each."""
    from sklearn.metrics import f1_score

    return float(f1_score(true, predicted, average="macro")) if len(true) else math.nan


def mean_iou(predicted: np.ndarray, true: np.ndarray) -> float:
    """`TP / (TP + FP + FN)` averaged over the classes that occur among labels or predictions."""
    from sklearn.metrics import jaccard_score

    return float(jaccard_score(true, predicted, average="macro")) if len(true) else math.nan


def confusion_matrix(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts, integers `[C, C]`: rows are the true classes, columns the predicted ones."""
    from sklearn.metrics import confusion_matrix as count

    if not len(true):
        return np.zeros((num_classes, num_classes), np.int64)
    return count(true, predicted, labels=np.arange(num_classes))


def mean_average_precision(scores: np.ndarray, decided: np.ndarray, true: np.ndarray) -> float:
    """The average precision of each label, averaged over the labels that apply to at least one example.

    Args:
        scores: `[n, C]`, higher for likelier labels.
        decided: unused.
        true: `[n, C]` of 1, 0 and -1 (missing, left out).
    """
    from sklearn.metrics import average_precision_score

    columns = [(true[:, c] >= 0, c) for c in range(true.shape[1]) if (true[:, c] == 1).any()]
    values = [average_precision_score(true[known, c], scores[known, c]) for known, c in columns]
    return float(np.mean(values)) if values else math.nan


def micro_f1(scores: np.ndarray, decided: np.ndarray, true: np.ndarray) -> float:
    """F1 over all known labels of all examples together, decided at probability 0.5."""
    from sklearn.metrics import f1_score

    known = true >= 0
    return float(f1_score(true[known] == 1, decided[known], zero_division=np.nan)) if known.any() else math.nan


def exact_match(scores: np.ndarray, decided: np.ndarray, true: np.ndarray) -> float:
    """The share of examples whose known labels are all predicted correctly, of those with a known label."""
    known = true >= 0
    rows = known.any(axis=1)
    right = ((decided == (true == 1)) | ~known).all(axis=1)
    return float(right[rows].mean()) if rows.any() else math.nan


def mean_absolute_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """The mean of `|predicted - true|` over the known targets; `[n, d]`, NaN for a missing target."""
    from sklearn.metrics import mean_absolute_error as error

    known = ~np.isnan(true)
    return float(error(true[known], predicted[known])) if known.any() else math.nan


def root_mean_squared_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """The root of the mean of `(predicted - true)^2` over the known targets; `[n, d]`, NaN for a missing target."""
    from sklearn.metrics import root_mean_squared_error as error

    known = ~np.isnan(true)
    return float(error(true[known], predicted[known])) if known.any() else math.nan


def r_squared(predicted: np.ndarray, true: np.ndarray) -> float:
    """`1 - sum (true - predicted)^2 / sum (true - mean)^2` of each target, averaged; two known values each at least."""
    from sklearn.metrics import r2_score

    columns = [(known, c) for c, known in enumerate(~np.isnan(true.T)) if known.sum() >= 2]
    values = [r2_score(true[known, c], predicted[known, c]) for known, c in columns]
    return float(np.mean(values)) if values else math.nan
