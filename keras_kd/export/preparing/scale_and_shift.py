"""Layers that scale and shift channels, as one integer operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_kd.compression.quantization.operations import Kind, kind_of
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import Call, call_that_made, calls_of
from keras_kd.serialization import register
from keras_kd.surgery.graph import functional


@register
class ScaleAndShift(layers.Layer):
    """`scale * x + shift` with a scale and a shift for each channel, as a depthwise convolution of size 1.

    A multiplication and an addition would need the range of the product, which is not trained, and round twice.
    """

    def __init__(self, **settings: Any):
        super().__init__(**{"dtype": "float32"} | settings)
        self.supports_masking = True

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), trainable=False)
        self.shift = self.add_weight(name="shift", shape=(shape[-1],), trainable=False)

    def call(self, inputs, training=None, mask=None):
        kernel = ops.reshape(self.scale, (1, 1, -1, 1))
        images = inputs if len(inputs.shape) == 4 else ops.reshape(inputs, (-1, 1, 1, inputs.shape[-1]))
        outputs = ops.depthwise_conv(images, kernel, data_format="channels_last") + self.shift
        return outputs if len(inputs.shape) == 4 else ops.reshape(outputs, ops.shape(inputs))


def separate_layers(model: keras.Model) -> set[int]:
    """The ids of the layers that scale and shift their inputs, and are not folded into the layer before."""
    calls = [call for call in _calls(model) if call.inputs and _is_known(_inner(call.operation), call.inputs[0])]
    folded = {id(call.operation) for call in calls if _folded_into(call) is not None}
    return {id(call.operation) for call in calls} - folded


def layers_with_folded(model: keras.Model) -> set[int]:
    """The ids of the convolutions and dense layers into which the batch normalization after them is folded."""
    return {id(maker) for maker in map(_folded_into, _calls(model)) if maker is not None}


def scale_and_shift(layer: layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """The scale and the shift of a layer at inference, float64, each `()` or `(channels,)`."""
    layer = _inner(layer)
    if isinstance(layer, layers.Rescaling):
        return _float64(layer.scale), _float64(layer.offset)
    if isinstance(layer, layers.Normalization):
        scale = 1 / np.maximum(np.sqrt(_float64(layer.variance)), keras.config.epsilon())
        return scale.ravel(), (-_float64(layer.mean) * scale).ravel()
    mean, variance = _float64(layer.moving_mean), _float64(layer.moving_variance)
    scale = (1.0 if layer.gamma is None else _float64(layer.gamma)) / np.sqrt(variance + layer.epsilon)
    return scale, (0.0 if layer.beta is None else _float64(layer.beta)) - mean * scale


def _is_known(layer: Any, inputs: keras.KerasTensor) -> bool:
    """Whether a layer does the same to all values of a channel, the last axis."""
    if "float" not in str(inputs.dtype):
        return False
    if isinstance(layer, layers.BatchNormalization):
        renormalizes = getattr(layer, "renorm", False)  # the oldest Keras that is supported cannot
        return layer.axis in (-1, len(inputs.shape) - 1) and not renormalizes
    if isinstance(layer, layers.Rescaling):
        return max(np.ndim(layer.scale), np.ndim(layer.offset)) <= 1
    if isinstance(layer, layers.Normalization):
        return not layer.invert and layer.mean.shape[-1] == np.size(layer.mean)
    return False


def _folded_into(call: Call) -> Any:
    """The convolution or dense layer into which a batch normalization is folded; None if there is none."""
    if not isinstance(_inner(call.operation), layers.BatchNormalization):
        return None
    maker, _ = call_that_made(call.inputs[0])
    return maker.operation if kind_of(_inner(maker.operation)) is Kind.LINEAR else None


def _inner(operation: Any) -> Any:
    return operation.layer if isinstance(operation, Reparametrized) else operation


def _calls(model: keras.Model) -> Iterator[Call]:
    """The calls in a model and in the models nested in it."""
    nested = {}
    for call in calls_of(functional(model)):
        yield call
        if is_graph(call.operation):
            nested[id(call.operation)] = call.operation
    for inner in nested.values():
        yield from _calls(inner)


def _float64(value: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(value), "float64")
