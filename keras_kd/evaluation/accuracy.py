"""How often a model is right, where it is wrong, and how often two models say the same. Pure NumPy in, numbers out.

Predictions are, everywhere in this file: `[n, C]` logits or probabilities, one column per class; or `[n, 1]` or
`[n]` floats for two classes, where `from_logits` must say whether they are logits or the probability of class 1;
or `[n]` integers, the predicted classes themselves. Labels are `[n]` or `[n, 1]` integers, or one-hot rows `[n, C]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.teachers.calibration import calibration_error, log_probabilities, reliability_bins


@dataclass(frozen=True)
class Quality:
    """What `measure` found on one set of examples.

    Attributes:
        accuracy: the share of right predictions, 0 to 1.
        macro_f1: F1 averaged over the classes, 0 to 1; see `macro_f1`.
        confusion: counts, integers [C, C]; rows are the true classes, columns the predicted ones.
        agreement: the share of examples, 0 to 1, on which the reference predicts the same class; None without one.
        num_examples: the number of examples.
    """

    accuracy: float
    macro_f1: float
    confusion: np.ndarray = field(compare=False)
    agreement: float | None
    num_examples: int


def measure(
    predictions: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray | None = None,
    *,
    from_logits: bool | None = None,
) -> Quality:
    """Compares predictions with labels, and with the predictions of a reference model.

    Args:
        predictions: see the top of this file.
        labels: the true classes.
        reference: predictions of another model on the same examples, in the same form.
        from_logits: needed for predictions of one column only.

    Raises:
        ConfigurationError: shapes that do not fit each other, labels out of range, NaN, or no examples.

    >>> measure(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).accuracy
    0.5
    """
    return Quality(
        accuracy=accuracy(predictions, labels, from_logits=from_logits),
        macro_f1=macro_f1(predictions, labels, from_logits=from_logits),
        confusion=confusion_matrix(predictions, labels, from_logits=from_logits),
        agreement=None if reference is None else agreement(predictions, reference, from_logits=from_logits),
        num_examples=len(predictions),
    )


def accuracy(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> float:
    """The share of examples, 0 to 1, whose predicted class is the true one. Arguments: see `measure`.

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), np.array([0, 1, 1])).__round__(3)
    0.667
    """
    from sklearn.metrics import accuracy_score

    predicted, true, _ = _pair(predictions, labels, from_logits)
    return float(accuracy_score(true, predicted))


def macro_f1(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> float:
    """F1, averaged over the classes that occur among labels or predictions: each class counts the same.

    `F1 = 2 TP / (2 TP + FP + FN)` per class. Arguments: see `measure`.

    >>> macro_f1(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])).__round__(3)
    0.733
    """
    from sklearn.metrics import f1_score

    predicted, true, _ = _pair(predictions, labels, from_logits)
    return float(f1_score(true, predicted, average="macro"))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> np.ndarray:
    """Counts, integers [C, C]: rows are the true classes, columns the predicted ones. Arguments: see `measure`.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """
    from sklearn.metrics import confusion_matrix as count

    predicted, true, num_classes = _pair(predictions, labels, from_logits)
    return count(true, predicted, labels=np.arange(num_classes))


def agreement(predictions_a: np.ndarray, predictions_b: np.ndarray, *, from_logits: bool | None = None) -> float:
    """The share of examples, 0 to 1, on which two models predict the same class, right or wrong.

    Raises:
        ConfigurationError: see `measure`.

    >>> agreement(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.7, 0.3]]))
    0.5
    """
    first, num_first = class_ids(predictions_a, from_logits=from_logits)
    second, num_second = class_ids(predictions_b, from_logits=from_logits)
    if len(first) != len(second) or None not in (num_first, num_second) and num_first != num_second:
        received = f"shapes {np.shape(predictions_a)} and {np.shape(predictions_b)}"
        problem, expected = "These predictions cannot be compared.", "the same examples and classes"
        raise ConfigurationError(explain(problem, received=received, expected=expected))
    return float(np.mean(first == second))


def expected_calibration_error(
    predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool, num_bins: int = 15
) -> float:
    """How far the model's confidence is from its accuracy, 0 to 1; 0 is well calibrated.

    `ECE = sum_b(n_b / n * |accuracy_b - confidence_b|)` over equal bins of the confidence, the probability of
    the predicted class (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Args:
        predictions: [n, C], [n, 1] or [n] floats.
        labels: the true classes.
        from_logits: whether the predictions are logits, and not probabilities.
        num_bins: the number of bins, 1 or more.

    Raises:
        ConfigurationError: see `measure`; or the predictions are classes, or no probabilities.

    >>> expected_calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]), from_logits=False)
    0.4
    """
    num_bins = check_integer("num_bins", num_bins, at_least=1)
    predicted, true, _ = _pair(predictions, labels, from_logits)
    confidence = _probabilities(predictions, from_logits).max(axis=1)
    return calibration_error(reliability_bins(confidence, predicted == true, num_bins))


def class_ids(predictions: np.ndarray, *, from_logits: bool | None = None) -> tuple[np.ndarray, int | None]:
    """The predicted classes, integers [n], and the number of classes (None where only classes were given).

    Args:
        predictions: see the top of this file.
        from_logits: needed for predictions of one column only: class 1 is above 0 for logits, else above 0.5.

    Raises:
        ConfigurationError: see `measure`.

    >>> class_ids(np.array([[-1.0], [0.2]]), from_logits=True)
    (array([0, 1]), 2)
    """
    predictions = _finite(predictions)
    if predictions.ndim == 1 and predictions.dtype.kind in "iu":
        return predictions, None
    if predictions.ndim == 2 and predictions.shape[1] > 1:
        return predictions.argmax(axis=1), predictions.shape[1]
    if from_logits is None:
        raise ConfigurationError(
            explain(
                "Predictions of one column need 'from_logits'.",
                received=f"shape {predictions.shape} without it",
                expected="from_logits=True for logits, False for the probability of class 1",
            )
        )
    scores = predictions.reshape(-1)
    if not from_logits:
        _check_probabilities(scores)
    return (scores > (0.0 if from_logits else 0.5)).astype(int), 2


def _pair(predictions: np.ndarray, labels: np.ndarray, from_logits: bool | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Predicted classes [n], true classes [n], number of classes."""
    predicted, num_classes = class_ids(predictions, from_logits=from_logits)
    true = _label_ids(labels)
    if len(true) != len(predicted):
        received = f"{len(true)} labels, {len(predicted)} predictions"
        raise ConfigurationError(
            explain("Labels and predictions do not fit.", received=received, expected="one label each")
        )
    num_classes = num_classes or int(max(true.max(), predicted.max())) + 1
    lowest, highest = min(true.min(), predicted.min()), true.max()
    if lowest < 0 or highest >= num_classes:
        received, expected = f"from {lowest} to {highest}", f"0 to {num_classes - 1}"
        raise ConfigurationError(explain("A class is out of range.", received=received, expected=expected))
    return predicted, true, num_classes


def _label_ids(labels: np.ndarray) -> np.ndarray:
    """Labels as integers [n]."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            expected = "one-hot rows, or integers [n]"
            raise ConfigurationError(
                explain("Labels are no classes.", received="rows that are not one-hot", expected=expected)
            )
        return labels.argmax(axis=1)
    if labels.ndim not in (1, 2) or not np.array_equal(labels, np.round(labels)):
        received = f"{labels.dtype} in shape {labels.shape}"
        expected = "integers [n] or [n, 1], or one-hot rows [n, C]"
        raise ConfigurationError(explain("Labels are no classes.", received=received, expected=expected))
    return labels.reshape(-1).astype(int)


def _finite(predictions: np.ndarray) -> np.ndarray:
    """The predictions as an array, checked for shape, NaN and infinity."""
    predictions = np.asarray(predictions)
    if predictions.ndim not in (1, 2) or not predictions.size:
        fix = "Reshape predictions per pixel or per token to [n, C] first."
        expected = "[n, C], [n, 1] or [n] with n >= 1"
        problem = "The predictions have an unusable shape."
        raise ConfigurationError(explain(problem, received=predictions.shape, expected=expected, fix=fix))
    if not np.isfinite(predictions).all():
        rows = int((~np.isfinite(predictions.reshape(len(predictions), -1))).any(axis=1).sum())
        problem, expected = "The predictions hold NaN or infinity.", "finite numbers"
        raise ConfigurationError(explain(problem, received=f"{rows} such rows", expected=expected))
    return predictions


def _probabilities(predictions: np.ndarray, from_logits: bool) -> np.ndarray:
    """Probabilities [n, C], computed in float64."""
    predictions = np.asarray(predictions)
    if predictions.dtype.kind in "iu":
        problem, expected = "Classes have no confidence.", "logits or probabilities"
        raise ConfigurationError(explain(problem, received=f"{predictions.dtype} predictions", expected=expected))
    scores = predictions.astype(np.float64)
    if scores.ndim == 1 or scores.shape[1] == 1:
        scores = scores.reshape(-1, 1)
        scores = np.hstack([np.zeros_like(scores) if from_logits else 1 - scores, scores])
    if not from_logits:
        _check_probabilities(scores)
        return scores
    return np.exp(log_probabilities(scores))


def _check_probabilities(scores: np.ndarray) -> None:
    if scores.min() < 0 or scores.max() > 1:
        problem, fix = "These predictions are no probabilities.", "Pass from_logits=True if they are logits."
        received = f"values from {scores.min():.3g} to {scores.max():.3g}"
        raise ConfigurationError(explain(problem, received=received, expected="0 to 1", fix=fix))
