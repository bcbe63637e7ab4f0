"""Weights per example, by how far the teacher can be trusted there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_kd.losses.numerics import class_indices, upcast


def confidence_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """The probability that the teacher gives to its own answer.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: not read.

    Returns:
        `[...]`, from 1 / classes to 1.
    """
    return ops.max(_probabilities(teacher_logits), axis=-1)


def entropy_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """1 minus the entropy of the teacher's answer over the largest one: 0 where it knows nothing, 1 where it is sure.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: not read.

    Returns:
        `[...]`, from 0 to 1.
    """
    probabilities = _probabilities(teacher_logits)
    entropy = -ops.sum(probabilities * ops.log(ops.maximum(probabilities, 1e-30)), axis=-1)
    return ops.maximum(1.0 - entropy / math.log(probabilities.shape[-1]), 0.0)


def correctness_weights(teacher_logits: Any, labels: Any) -> Any:
    """1 where the teacher's answer is the label, 0 where it is not; 1 for a row without a label (-1).

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: `[...]` or `[..., 1]` class numbers, or `[..., classes]` one-hot.

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
