"""Rounds the tensors inside a layer normalization."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_kd.compression.quantization.activations import is_exporting
from keras_kd.compression.quantization.inside import QuantizedInside
from keras_kd.features.capture import replaced
from keras_kd.serialization import register


@register
class InsideLayerNormalization(QuantizedInside):
    """Rounds the mean, the variance and what is computed from them in `LayerNormalization`.

    An integer file has no operation for it; it computes

        (inputs - mean) * rsqrt(variance + epsilon) * gamma + beta

    one operation after the other, each rounded. The variance in 8 bits is coarse: where the variances of positions
    differ by orders of magnitude, name the layer in `skip`.
    """

    @classmethod
    def fits(cls, layer):
        return type(layer) is keras.layers.LayerNormalization and not getattr(layer, "rms_scaling", False)

    @classmethod
    def tensors(cls, layer):
        names = ["mean", "centered", "squares", "variance", "shifted_variance", "inverse"]
        names += ["normalized"] if layer.scale or layer.center else []
        return dict.fromkeys(names + (["scaled"] if layer.scale and layer.center else []))

    def around(self, layer, *, training):
        rounded = self.rounding(training)

        def call(inputs):
            axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
            axes = [axis % len(inputs.shape) for axis in axes]
            shape = [inputs.shape[axis] if axis in axes else 1 for axis in range(len(inputs.shape))]
            values = ops.cast(inputs, "float32")
            centered = rounded["centered"](values - rounded["mean"](ops.mean(values, axis=axes, keepdims=True)))
            variance = rounded["variance"](ops.mean(rounded["squares"](centered * centered), axis=axes, keepdims=True))
            shifted = rounded["shifted_variance"](variance + layer.epsilon)
            outputs = centered * self._inverse(shifted, training=training)
            if layer.scale:
                gamma = ops.reshape(ops.cast(layer.gamma, "float32"), shape)
                outputs = rounded["normalized"](outputs) * gamma
            if layer.center:
                beta = ops.reshape(ops.cast(layer.beta, "float32"), shape)
                outputs = rounded["scaled" if layer.scale else "normalized"](outputs) + beta
            return ops.cast(outputs, layer.compute_dtype)

        return replaced(layer, "call", lambda original: call)

    def _inverse(self, shifted: Any, *, training: bool) -> Any:
        """`1 / sqrt(shifted)`, rounded; where `shifted` was rounded to 0, the largest value of its range.

        The integer kernel computes it so. The range follows the square roots of at least one step of `shifted`.
        """
        quantizer = self.quantizers["inverse"]
        if training:
            quantizer.follow([ops.rsqrt(ops.maximum(shifted, self.quantizers["shifted_variance"].step()))])
        if not is_exporting():
            shifted = ops.maximum(shifted, _ALMOST_ZERO)
        return quantizer(ops.rsqrt(shifted), training=False)


_ALMOST_ZERO = 1e-20
"""Its inverse square root is above any range and, like its derivative, finite in float32."""
