"""Rounds the tensors inside layers that compute several operations of an integer file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.compression.inside import Inside
from keras_kd.compression.quantization.activations import ActivationQuantizer
from keras_kd.compression.quantization.settings import QuantizerSettings
from keras_kd.features.capture import replaced
from keras_kd.features.paths import has_activation
from keras_kd.serialization import deserialize, register, serialize

FUSED = ("linear", "relu", "relu6")
"""The activations that an operation of an integer file applies itself."""

TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
"""The convolutions that apply no activation themselves."""


class QuantizedInside(Inside):
    """Rounds tensors inside a layer, each by a quantizer.

    Args:
        quantizers: by the name of the tensor, as in `tensors`.
    """

    def __init__(self, quantizers: Mapping[str, ActivationQuantizer], **settings: Any):
        super().__init__(**settings)
        self.quantizers = dict(quantizers)

    @classmethod
    def fits(cls, layer: Any) -> bool:
        """Whether this class describes what the layer computes."""
        raise NotImplementedError

    @classmethod
    def tensors(cls, layer: Any) -> dict[str, str | None]:
        """The tensors that are rounded, and the activation that each comes from, if its range may be fixed."""
        raise NotImplementedError

    @classmethod
    def of(cls, layer: Any, settings: QuantizerSettings, calls: int) -> QuantizedInside:
        """With the quantizers for a layer that runs `calls` times in a step."""
        return cls(
            {name: settings.make(name, calls, activation) for name, activation in cls.tensors(layer).items()},
            name=f"inside_{layer.name}",
        )

    def rounding(self, training: bool) -> dict[str, Callable[[Any], Any]]:
        """The function that rounds each tensor."""

        def function(quantizer):
            return lambda value: quantizer(value, training=training)

        return {name: function(quantizer) for name, quantizer in self.quantizers.items()}

    def get_config(self):
        quantizers = {name: serialize(quantizer) for name, quantizer in self.quantizers.items()}
        return super().get_config() | {"quantizers": quantizers}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls({name: deserialize(value) for name, value in config.pop("quantizers").items()}, **config)


@register
class InsideActivation(QuantizedInside):
    """Rounds what enters the activation of a layer, which is an operation of its own in an integer file."""

    @classmethod
    def fits(cls, layer):
        fused = FUSED[:1] if isinstance(layer, TRANSPOSED) else FUSED
        return has_activation(layer) and activation_name(layer.activation) not in fused

    @classmethod
    def tensors(cls, layer):
        own = {} if isinstance(layer, keras.layers.Activation) else {"preactivation": None}
        return own | _opened_tensors(layer)

    def around(self, layer, *, training):
        rounded, name = self.rounding(training), activation_name(layer.activation)
        enter = rounded.get("preactivation", lambda value: value)

        def wrap(activation):
            return lambda value: _activated(name, activation, enter(value), rounded)

        return replaced(layer, "activation", wrap)


@register
class InsideSeparable(InsideActivation):
    """Rounds what the depthwise part of a separable convolution passes to the pointwise part."""

    @classmethod
    def fits(cls, layer):
        return isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D))

    @classmethod
    def tensors(cls, layer):
        is_fused = activation_name(layer.activation) in FUSED
        return {"depthwise": None} | ({} if is_fused else {"preactivation": None} | _opened_tensors(layer))

    @contextlib.contextmanager
    def around(self, layer, *, training):
        rounded = self.rounding(training)["depthwise"]

        def call(inputs):
            settings = {"data_format": layer.data_format}
            outputs = rounded(
                ops.depthwise_conv(
                    inputs,
                    layer.depthwise_kernel,
                    strides=layer.strides,
                    padding=layer.padding,
                    dilation_rate=layer.dilation_rate,
                    **settings,
                )
            )
            outputs = ops.conv(outputs, layer.pointwise_kernel, strides=1, padding="valid", **settings)
            if layer.use_bias:
                shape = [1] * len(outputs.shape)
                shape[-1 if layer.data_format == "channels_last" else 1] = layer.filters
                outputs = ops.add(outputs, ops.reshape(layer.bias, shape))
            return outputs if layer.activation is None else layer.activation(outputs)

        with super().around(layer, training=training), replaced(layer, "call", lambda original: call):
            yield


@register
class InsideSum(QuantizedInside):
    """Rounds the partial sums, products and so on of an `Add` or its like of more than two tensors."""

    @classmethod
    def fits(cls, layer):
        shapes = (layer.get_build_config() or {}).get("input_shape") if type(layer) in _PAIRWISE else None
        return bool(shapes) and len(shapes) > 2 and len({len(shape) for shape in shapes}) == 1

    @classmethod
    def tensors(cls, layer):
        return {f"partial_{number}": None for number in range(len(layer.get_build_config()["input_shape"]) - 2)}

    def around(self, layer, *, training):
        rounded, together = self.rounding(training), _PAIRWISE[type(layer)]

        def call(inputs):
            result = inputs[0]
            for number, value in enumerate(inputs[1:-1]):
                result = rounded[f"partial_{number}"](together(result, value))
            return together(result, inputs[-1])

        return replaced(layer, "call", lambda original: call)


_PAIRWISE = {
    keras.layers.Add: ops.add,
    keras.layers.Multiply: ops.multiply,
    keras.layers.Maximum: ops.maximum,
    keras.layers.Minimum: ops.minimum,
}


def activation_name(activation: Any) -> str:
    """The name of an activation function; `"linear"` for None.

    >>> activation_name(keras.activations.get("swish")), activation_name(None)
    ('silu', 'linear')
    """
    return "linear" if activation is None else getattr(activation, "__name__", type(activation).__name__)


_OPENED = {"silu": {"sigmoid": "sigmoid"}, "hard_sigmoid": {"relu6": None}}
"""Activations that are several operations in an integer file: the tensors between these, as in `tensors`."""


def _opened_tensors(layer: Any) -> dict[str, str | None]:
    return _OPENED.get(activation_name(layer.activation), {})


def _activated(name: str, activation: Any, value: Any, rounded: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The result of an activation, with the tensors between its operations rounded."""
    if name == "silu":
        return value * rounded["sigmoid"](ops.sigmoid(value))
    if name == "hard_sigmoid":
        return rounded["relu6"](ops.relu6(value + 3.0)) * (1.0 / 6.0)
    return activation(value)
