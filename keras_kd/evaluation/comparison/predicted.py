"""The predictions of a classifier: the class of each example, and how sure the model is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_kd.tasks.decisions import class_ids
from keras_kd.teachers.calibration import ReliabilityBins, confidences, reliability_bins


class Predictions(NamedTuple):
    """Of one model for the same examples in the same order.

    Attributes:
        classes: `[n]`, the predicted classes.
        confidences: `[n]`, the probabilities of these classes, 0 to 1.
    """

    classes: np.ndarray
    confidences: np.ndarray


def predictions(outputs: np.ndarray, *, from_logits: bool) -> Predictions:
    """The classes and confidences from outputs `[n, C]`, with C of at least 2.

    The probabilities of an integer file need not add up to 1; its confidence is the number that an app reads.

    Raises:
        ConfigurationError: no predictions, NaN or infinity.

    >>> predictions(np.array([[0.25, 0.75]]), from_logits=False)
    Predictions(classes=array([1]), confidences=array([0.75]))
    """
    classes, _ = class_ids(outputs)
    sure = confidences(outputs) if from_logits else np.clip(outputs.max(axis=1).astype(np.float64), 0, 1)
    return Predictions(classes, sure)


def reliability(predicted: Predictions, labels: np.ndarray) -> ReliabilityBins:
    """The examples binned by confidence; `labels` is `[n]`, -1 for a missing one, which is left out."""
    known = labels >= 0
    return reliability_bins(predicted.confidences[known], (predicted.classes == labels)[known])
