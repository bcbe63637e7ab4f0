"""Weights per example from the reliability of the teacher's prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_kd.losses.numerics import upcast
from keras_kd.tasks.tensors import class_indices


def confidence_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """The probability of the teacher's predicted class.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes with a sigmoid.
        labels: unused.

    Returns:
        `[...]`, from 1 / classes to 1.
    """
    return ops.max(_probabilities(teacher_logits), axis=-1)


def entropy_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """1 minus the normalized entropy of the teacher's distribution: 0 if it is uniform, 1 if it is certain.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes with a sigmoid.
        labels: unused.

    Returns:
        `[...]`, from 0 to 1.
    """
    probabilities = _probabilities(teacher_logits)
    entropy = -ops.sum(probabilities * ops.log(ops.maximum(probabilities, 1e-30)), axis=-1)
    return ops.maximum(1.0 - entropy / math.log(probabilities.shape[-1]), 0.0)


def correctness_weights(teacher_logits: Any, labels: Any) -> Any:
    """1 if the teacher predicts the label, else 0; 1 for unlabeled rows (-1).

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes with a sigmoid.
        labels: class indices `[...]` or `[..., 1]`, or one-hot `[..., classes]`.

    Returns:
        `[...]`.
    """
    probabilities = _probabilities(teacher_logits)
    labels = class_indices(labels, len(teacher_logits.shape) - 1)
    is_right = ops.equal(ops.cast(ops.argmax(probabilities, axis=-1), labels.dtype), labels)
    return ops.cast(ops.logical_or(is_right, labels < 0), probabilities.dtype)


EXAMPLE_WEIGHTS: dict[str, Callable[[Any, Any], Any]] = {
    "confidence": confidence_weights,
    "entropy": entropy_weights,
    "correctness": correctness_weights,
}


def _probabilities(teacher_logits: Any) -> Any:
    (logits,) = upcast(teacher_logits)
    if logits.shape[-1] == 1:
        return ops.concatenate([ops.sigmoid(-logits), ops.sigmoid(logits)], axis=-1)
    return ops.softmax(logits, axis=-1)
