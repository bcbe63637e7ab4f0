"""Labels inside a training step: the counterpart of `labels.py` for tensors, whose values cannot be checked."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks.labels import UNLABELED


def class_indices(labels: Any, num_axes: int) -> Any:
    """Class numbers, int32 with `num_axes` axes, from class numbers (an axis of 1 may follow) or one-hot rows.

    A missing label, -1 or a row of zeros, becomes -1.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == num_axes + 1:
        if labels.shape[-1] > 1:
            has_label = ops.max(labels, axis=-1) > 0
            return ops.where(has_label, ops.cast(ops.argmax(labels, axis=-1), "int32"), UNLABELED)
        labels = ops.squeeze(labels, axis=-1)
    return ops.cast(labels, "int32")


def has_label(labels: Any, ignore_class: int | None) -> Any:
    """Bool `[batch, ...]`: which class numbers `[batch, ...(, 1)]` or rows `[batch, ..., classes]` are labels.

    Args:
        labels: class numbers where `ignore_class` is given, else rows of class probabilities.
        ignore_class: the class number of a missing label; None stands for a row of zeros.
    """
    labels = ops.cast(labels, "float32")  # as Keras compares them: -1 is not a uint8
    if ignore_class is None:
        return ops.any(ops.not_equal(labels, 0.0), axis=-1)
    if len(labels.shape) > 1 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    return ops.not_equal(labels, float(ignore_class))


def targets_of(labels: Any, logits: Any, activation: str) -> tuple[Any, Any]:
    """The targets that go with logits `[..., classes]`, and which of them are known.

    Args:
        labels: class numbers or one-hot rows for a softmax; 0 or 1 for each output for sigmoids; -1 where missing.
        logits: `[batch, ..., classes]`.
        activation: `"softmax"` or `"sigmoid"`.

    Returns:
        Targets `[..., classes]` in the dtype of the logits; and bool, rows `[..., 1]` of a softmax, outputs
        `[..., classes]` of sigmoids.

    Raises:
        ConfigurationError: shapes that do not fit.
    """
    num_axes, num_classes = len(logits.shape), logits.shape[-1]
    is_narrow = len(labels.shape) == num_axes and labels.shape[-1] == 1
    if activation == "softmax" and (len(labels.shape) == num_axes - 1 or is_narrow):
        numbers = class_indices(labels, num_axes - 1)[..., None]
        one_hot = ops.equal(numbers, ops.arange(num_classes, dtype="int32"))
        return ops.cast(one_hot, logits.dtype), numbers >= 0
    if activation == "sigmoid" and num_classes == 1 and len(labels.shape) == num_axes - 1:
        labels = labels[..., None]
    if len(labels.shape) != num_axes or labels.shape[-1] != num_classes:
        raise ConfigurationError(
            explain(
                "The labels do not fit the logits.",
                received=f"labels of shape {tuple(labels.shape)} for logits of shape {tuple(logits.shape)}",
                expected="class numbers or one-hot rows" if activation == "softmax" else "0 or 1 for each output",
            )
        )
    values = ops.cast(labels, logits.dtype)
    if activation == "softmax":
        return values, ops.max(values, axis=-1, keepdims=True) > 0
    return values, values >= 0
