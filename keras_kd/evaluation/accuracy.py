"""Accuracy, confusion, calibration, and agreement between models, computed with NumPy.

Class predictions are `[n, C]` logits or probabilities, one column per class; or `[n, 1]` or `[n]` floats for two
classes, where `from_logits` tells logits from the probability of class 1; or `[n]` integers, the predicted classes.
Labels are `[n]` or `[n, 1]` integers, or one-hot rows `[n, C]`. Examples with a missing label (-1 or a row of zeros)
are left out. For outputs with positions, `[n, ..., C]`, each labeled position counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.tasks import Classification, Scores, get, measures
from keras_kd.tasks.decisions import check_probabilities
from keras_kd.teachers.calibration import calibration_error, log_probabilities, reliability_bins

_CLASSES = Classification()


def measure(
    predictions: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray | None = None,
    *,
    task: Any = "classification",
    from_logits: bool | None = None,
) -> Scores:
    """Compares predictions with labels, and with the predictions of a reference model, by the measures of a task.

    Args:
        predictions: the model's outputs, `[n, ...]`.
        labels: in any form that the task accepts.
        reference: predictions of another model on the same examples, in the same form.
        task: one of `keras_kd.tasks`, or its name.
        from_logits: whether predictions are logits; needed for one column, and for independent labels.

    Raises:
        ConfigurationError: mismatched shapes, labels out of range, NaN, or no examples.

    >>> measure(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))["accuracy"]
    0.5
    >>> measure(np.array([[1.0], [3.0]]), np.array([2.0, 3.0]), task="regression")["mean_absolute_error"]
    0.5
    """
    return get(task).measure(predictions, labels, reference, from_logits=from_logits)


def accuracy(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> float:
    """The share of examples, 0 to 1, whose predicted class is the true one. Arguments: see `measure`.

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), np.array([0, 1, 1])).__round__(3)
    0.667
    """
    return measures.accuracy(*_CLASSES.scored(predictions, labels, from_logits=from_logits))


def macro_f1(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> float:
    """F1, averaged with equal weights over the classes that occur in labels or predictions.

    `F1 = 2 TP / (2 TP + FP + FN)` per class. Arguments: see `measure`.

    >>> macro_f1(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])).__round__(3)
    0.733
    """
    return measures.macro_f1(*_CLASSES.scored(predictions, labels, from_logits=from_logits))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> np.ndarray:
    """Counts as integers [C, C]: rows are true classes, columns predicted ones. Arguments: see `measure`.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """
    return _CLASSES.confusion(predictions, _CLASSES.scored(predictions, labels, from_logits=from_logits))


def agreement(predictions_a: np.ndarray, predictions_b: np.ndarray, *, from_logits: bool | None = None) -> float:
    """The share of examples, 0 to 1, on which two models predict the same class, right or wrong.

    Raises:
        ConfigurationError: see `measure`.

    >>> agreement(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.7, 0.3]]))
    0.5
    """
    return _CLASSES.agreement(predictions_a, predictions_b, from_logits=from_logits)


def expected_calibration_error(
    predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool, num_bins: int = 15
) -> float:
    """The mean gap between the model's confidence and its accuracy, 0 to 1; 0 is perfectly calibrated.

    `ECE = sum_b(n_b / n * |accuracy_b - confidence_b|)` over bins of equal width of the confidence, the probability of
    the predicted class (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Args:
        predictions: [n, C], [n, 1] or [n] floats.
        labels: the true classes; examples without one are left out.
        from_logits: whether the predictions are logits rather than probabilities.
        num_bins: the number of bins, at least 1.

    Raises:
        ConfigurationError: see `measure`; or the predictions are class numbers, or are not probabilities.

    >>> expected_calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]), from_logits=False)
    0.4
    """
    num_bins = check_integer("num_bins", num_bins, at_least=1)
    predicted, true = _CLASSES.scored(predictions, labels, from_logits=from_logits)
    confidence = _probabilities(predictions, from_logits).max(axis=-1)
    known = _CLASSES.read(labels) >= 0
    return calibration_error(reliability_bins(confidence[known], predicted == true, num_bins))


def _probabilities(predictions: np.ndarray, from_logits: bool) -> np.ndarray:
    """Probabilities [n, C], computed in float64."""
    predictions = np.asarray(predictions)
    if predictions.dtype.kind in "iu":
        problem, expected = "Class numbers contain no confidence.", "logits or probabilities"
        raise ConfigurationError(explain(problem, received=f"{predictions.dtype} predictions", expected=expected))
    scores = predictions.astype(np.float64)
    if scores.ndim == 1 or scores.shape[1] == 1:
        scores = scores.reshape(-1, 1)
        scores = np.hstack([np.zeros_like(scores) if from_logits else 1 - scores, scores])
    if not from_logits:
        check_probabilities(scores)
        return scores
    return np.exp(log_probabilities(scores))
