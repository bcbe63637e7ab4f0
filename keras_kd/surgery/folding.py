"""Folding of batch normalization: in inference it is a scale and a shift, which the preceding layer can absorb."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_kd.features import Place
from keras_kd.features.outputs import is_graph
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import call_that_made
from keras_kd.surgery.graph import Graph, GraphNode, read_graph

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_FOLDS_INTO = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    *_TRANSPOSED,
    *_DEPTHWISE,
)


def fold(kernel: Any, bias: Any, gamma: Any, beta: Any, mean: Any, variance: Any, *, epsilon: float) -> tuple[Any, Any]:
    """The kernel and bias that replace a linear layer and the batch normalization after it.

        scale = gamma / sqrt(variance + epsilon)
        kernel' = kernel * scale,    bias' = beta + (bias - mean) * scale

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018, section 3.2.

    Args:
        kernel: `[..., channels]`.
        bias, gamma, beta, mean, variance: `[channels]`, or one number for all channels.
        epsilon: added to the variance by the batch normalization.

    Returns:
        Both in float64: the kernel in its shape, the bias `[channels]`.

    >>> fold([[2.0]], [1.0], [3.0], [5.0], [0.5], [4.0], epsilon=0.0)
    (array([[3.]]), array([5.75]))
    """
    kernel, bias, gamma, beta, mean, variance = (
        np.asarray(value, "float64") for value in (kernel, bias, gamma, beta, mean, variance)
    )
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, beta + (bias - mean) * scale


def folded_weights(layer: keras.layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """The weights of `layer` with a bias, in the order of `layer.weights`, after `norm` has been folded into them."""
    *others, kernel = [_float64(variable) for variable in layer.weights if variable is not layer.bias]
    bias, gamma, beta, mean, variance = (
        default if variable is None else _float64(variable)
        for variable, default in (
            (layer.bias, 0.0),
            (norm.gamma, 1.0),
            (norm.beta, 0.0),
            (norm.moving_mean, None),
            (norm.moving_variance, None),
        )
    )
    channels_last, bias = fold(_channels_last(layer, kernel), bias, gamma, beta, mean, variance, epsilon=norm.epsilon)
    if isinstance(layer, _TRANSPOSED):
        return [*others, np.swapaxes(channels_last, -1, -2), bias]
    return [*others, channels_last.reshape(kernel.shape), bias]


def _channels_last(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """A kernel with the layer's output channels on the last axis."""
    if isinstance(layer, _TRANSPOSED):  # [..., channels, inputs]
        return np.swapaxes(kernel, -1, -2)
    if isinstance(layer, _DEPTHWISE):  # [..., inputs, multiplier]: channel = input * multiplier + m
        return kernel.reshape(*kernel.shape[:-2], -1)
    return kernel


def _float64(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")


@dataclasses.dataclass(frozen=True)
class Folding:
    """The batch normalizations of a model that can be folded; prints as `31 of 33 batch normalizations`.

    Attributes:
        pairs: for the path of each batch normalization that can be folded, the preceding layer and the normalization.
        kept: for the path of each of the others, the reason.
    """

    pairs: dict[str, tuple[keras.layers.Layer, layers.BatchNormalization]]
    kept: dict[str, str]

    def __str__(self) -> str:
        return f"{len(self.pairs)} of {len(self.pairs) + len(self.kept)} batch normalizations"

    def read(self, places: Iterable[Place]) -> frozenset[str]:
        """The paths of the batch normalizations whose input is captured by one of `places`.

        Folding keeps the output of the batch normalization, but changes the output of the layer before it.
        """
        heard = {(id(place.operation), "output" if place.point == "preactivation" else place.point) for place in places}
        return frozenset(
            path
            for path, (layer, norm) in self.pairs.items()
            if (id(layer), "output") in heard or (id(norm), "input") in heard
        )

    def without(self, paths: Iterable[str], reason: str) -> Folding:
        """The same folding without some of the batch normalizations."""
        left = dict.fromkeys(paths, reason)
        return Folding({path: pair for path, pair in self.pairs.items() if path not in left}, self.kept | left)


def find_foldable(model: keras.Model) -> Folding:
    """The batch normalizations that directly follow a linear layer which nothing else reads, nested models included.

    Args:
        model: any Keras model; inside parts without a symbolic graph nothing can be folded.
    """
    graph = read_graph(model) if is_graph(model) else None
    pairs, kept, seen = {}, {}, set()
    for path, norm in layers_by_path(model).items():
        if not isinstance(norm, layers.BatchNormalization) or id(norm) in seen:
            continue
        seen.add(id(norm))
        node = graph and graph.find(norm)
        reason = _why_not(norm, node, graph) if node else "it lies in a part without a symbolic graph"
        if reason is None:
            pairs[path] = (call_that_made(node.calls[0].inputs[0])[0].operation, norm)
        else:
            kept[path] = reason
    return Folding(pairs, kept)


def _why_not(norm: Any, node: GraphNode, graph: Graph) -> str | None:
    """Why a batch normalization cannot be folded; None if it can."""
    if type(norm) is not layers.BatchNormalization:
        return f"it is a {type(norm).__name__}"
    call = node.calls[-1]
    tensor = call.inputs[0]
    layer = call_that_made(tensor)[0].operation
    if type(layer) not in _FOLDS_INTO:
        return f"it follows {layer.name!r}, a {type(layer).__name__}"
    if layer.activation is not keras.activations.linear:
        return f"{layer.name!r} before it has an activation of its own"
    if graph.num_readers(tensor) != 1:
        return f"the output of {layer.name!r} before it is read elsewhere too"
    if len(graph.find(layer).calls) != 1 or len(node.calls) != 1:
        return f"it or {layer.name!r} before it runs more than once"
    if norm.axis % len(tensor.shape) != _channel_axis(layer, tensor):
        return f"its axis is not that of the channels of {layer.name!r}"
    if layer.quantization_mode is not None or getattr(layer, "lora_enabled", False):
        return f"{layer.name!r} before it is quantized or has LoRA weights"
    if len(call.args) > 1 or call.kwargs.get("training"):
        return "it is called in training mode"
    return None


def _channel_axis(layer: keras.layers.Layer, tensor: Any) -> int:
    is_first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if is_first else len(tensor.shape) - 1
