"""Keras metrics that ignore missing labels, for training curves."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.serialization import register
from keras_kd.tasks.losses import with_axis_of


@register
class PositionAccuracy(keras.metrics.Mean):
    """The share of labeled positions that are classified correctly: class numbers `[b, ...]`, -1 for no label."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "int32")
        right = ops.equal(y_true, ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        return super().update_state(ops.cast(right, "float32"), _weights(y_true >= 0, sample_weight))


@register
class LabelAccuracy(keras.metrics.Mean):
    """The share of known labels that are predicted correctly: labels `[b, C]` of 1 and 0, -1 for a missing one.

    Args:
        threshold: of the outputs: 0.5 for probabilities, 0 for logits.
    """

    def __init__(self, threshold=0.5, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "float32")
        right = ops.equal(y_true > 0.5, ops.cast(y_pred, "float32") > self.threshold)
        return super().update_state(ops.cast(right, "float32"), _weights(y_true >= 0, sample_weight))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@register
class AbsoluteError(keras.metrics.Mean):
    """The mean of `|prediction - target|` over the known targets `[b, d]`, NaN for a missing one."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.cast(with_axis_of(y_true, y_pred), "float32"), ops.cast(y_pred, "float32")
        known = ops.logical_not(ops.isnan(y_true))
        error = ops.abs(y_pred - ops.where(known, y_true, 0.0))
        return super().update_state(error, _weights(known, sample_weight))


def _weights(known, sample_weight):
    """Float32 like `known`, `[b, ...]`, times weights `[b]` or `[b, ...]`."""
    known = ops.cast(known, "float32")
    if sample_weight is None:
        return known
    weight = ops.cast(sample_weight, "float32")
    return known * ops.reshape(weight, (*ops.shape(weight), *[1] * (len(known.shape) - len(weight.shape))))
