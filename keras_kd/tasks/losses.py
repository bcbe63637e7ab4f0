"""Supervised losses that ignore missing labels, for tasks whose Keras loss cannot."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.serialization import register


@register
class BinaryCrossentropy(keras.losses.BinaryCrossentropy):
    """`keras.losses.BinaryCrossentropy` over the known labels; -1 marks a missing one.

    The value of an example is the mean over its known labels, 0 if it has none.
    """

    @staticmethod
    def is_known(y_true):
        """Bool, like `y_true`: which labels are known."""
        return ops.cast(y_true, "float32") >= 0

    def call(self, y_true, y_pred):
        y_true = with_axis_of(y_true, y_pred)
        known = ops.cast(self.is_known(y_true), y_pred.dtype)
        y_true = ops.cast(y_true, y_pred.dtype)
        values = super().call((y_true * known)[..., None], y_pred[..., None])
        return _mean_of_known(values, known)


@register
class MeanSquaredError(keras.losses.MeanSquaredError):
    """`keras.losses.MeanSquaredError` over the known targets; NaN marks a missing one.

    The value of an example is the mean over its known targets, 0 if it has none.
    """

    @staticmethod
    def is_known(y_true):
        """Bool, like `y_true`: which targets are known."""
        return ops.logical_not(ops.isnan(y_true))

    def call(self, y_true, y_pred):
        y_true = with_axis_of(y_true, y_pred)
        known = self.is_known(y_true)
        y_true = ops.where(known, ops.cast(y_true, y_pred.dtype), ops.cast(0, y_pred.dtype))
        values = super().call(y_true[..., None], y_pred[..., None])
        return _mean_of_known(values, ops.cast(known, y_pred.dtype))


def with_axis_of(y_true, y_pred):
    """`y_true`, `[..., 1]` if `y_pred` has one axis more, beside which it would broadcast to a matrix."""
    return y_true[..., None] if len(y_true.shape) == len(y_pred.shape) - 1 else y_true


def _mean_of_known(values, known):
    """The mean over the last axis, `[...]`, of the values `[..., d]` whose `known` is 1."""
    return ops.sum(values * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1)
