"""Folding of batch normalisation: in inference it is a scale and a shift, which the layer before it can do as well."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_kd.features import Place
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import call_that_made, calls_of

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
    """A kernel and a bias that do what a linear layer and the batch normalisation behind it do.

        scale = gamma / sqrt(variance + epsilon)
        kernel' = kernel * scale,    bias' = beta + (bias - mean) * scale

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018, section 3.2.

    Args:
        kernel: `[..., channels]`.
        bias, gamma, beta, mean, variance: `[channels]`, or a number that stands for all.
        epsilon: what the batch normalisation adds to the variance.

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
    """What of a model's batch normalisation can be folded; prints as `31 of 33 batch normalisations`.

    Attributes:
        pairs: the path of each batch normalisation that can be folded, and the layer and itself.
        kept: the path of each of the others, and why.
    """

    pairs: dict[str, tuple[keras.layers.Layer, layers.BatchNormalization]]
    kept: dict[str, str]

    def __str__(self) -> str:
        return f"{len(self.pairs)} of {len(self.pairs) + len(self.kept)} batch normalisations"

    def read(self, places: Iterable[Place]) -> frozenset[str]:
        """The paths of those between which and their layer one of `places` listens.

        The output of the batch normalisation is the same after folding, that of the layer is not.
        """
        heard = {(id(place.operation), "output" if place.point == "preactivation" else place.point) for place in places}
        return frozenset(
            path
            for path, (layer, norm) in self.pairs.items()
            if (id(layer), "output") in heard or (id(norm), "input") in heard
        )

    def without(self, paths: Iterable[str], reason: str) -> Folding:
        """The same with some left as they are."""
        left = dict.fromkeys(paths, reason)
        return Folding({path: pair for path, pair in self.pairs.items() if path not in left}, self.kept | left)


def find_foldable(model: keras.Model) -> Folding:
    """The batch normalisations that directly follow a linear layer which nothing else reads, nested models included.

    Args:
        model: any Keras model; inside parts without a symbolic graph nothing can be folded.
    """
    graphs = _plain_models(model).values()
    nodes = [node for _, nodes in graphs for node in nodes]
    runs = collections.Counter(id(node.operation) for node in nodes)
    readers = collections.Counter(id(tensor) for node in nodes for tensor in node.inputs)
    readers.update(id(tensor) for owner, _ in graphs for tensor in owner.outputs)
    node_of = {id(node.operation): node for node in nodes}
    pairs, kept, seen = {}, {}, set()
    for path, norm in layers_by_path(model).items():
        if not isinstance(norm, layers.BatchNormalization) or id(norm) in seen:
            continue
        seen.add(id(norm))
        reason = _why_not(norm, node_of.get(id(norm)), runs, readers)
        if reason is None:
            pairs[path] = (call_that_made(node_of[id(norm)].inputs[0])[0].operation, norm)
        else:
            kept[path] = reason
    return Folding(pairs, kept)


def _why_not(norm: Any, node: Any, runs: collections.Counter, readers: collections.Counter) -> str | None:
    """Why a batch normalisation cannot be folded; None where it can."""
    if node is None:
        return "it lies in a part without a symbolic graph"
    if type(norm) is not layers.BatchNormalization:
        return f"it is a {type(norm).__name__}"
    tensor = node.inputs[0]
    layer = call_that_made(tensor)[0].operation
    if type(layer) not in _FOLDS_INTO:
        return f"it follows {layer.name!r}, a {type(layer).__name__}"
    if layer.activation is not keras.activations.linear:
        return f"{layer.name!r} before it has an activation of its own"
    if readers[id(tensor)] != 1:
        return f"the output of {layer.name!r} before it is read elsewhere too"
    if runs[id(layer)] != 1 or runs[id(norm)] != 1:
        return f"it or {layer.name!r} before it runs more than once"
    if norm.axis % len(tensor.shape) != _channel_axis(layer, tensor):
        return f"its axis is not that of the channels of {layer.name!r}"
    if layer.quantization_mode is not None or getattr(layer, "lora_enabled", False):
        return f"{layer.name!r} before it is quantised or has LoRA weights"
    if len(node.args) > 1 or node.kwargs.get("training"):
        return "it is called in training mode"
    return None


def _channel_axis(layer: keras.layers.Layer, tensor: Any) -> int:
    is_first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if is_first else len(tensor.shape) - 1


def is_plain(model: Any) -> bool:
    """Whether a model is a symbolic graph and nothing more, so that the graph can be built again from other layers."""
    has_graph = isinstance(model, keras.Model) and bool(getattr(model, "outputs", None))
    return has_graph and type(model).call.__module__.startswith("keras.")


def graph_of(model: keras.Model) -> keras.Model:
    """A Functional model over the layers of a plain one, which it shares, without what was compiled."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def _plain_models(model: Any) -> dict[int, tuple[keras.Model, list[Any]]]:
    """A model and those nested in it, by id, as far as they are plain: each with the nodes of its graph."""
    found, waiting = {}, [model]
    while waiting:
        owner = waiting.pop()
        if id(owner) in found or not is_plain(owner):
            continue
        nodes = calls_of(graph_of(owner))
        found[id(owner)] = (owner, nodes)
        waiting.extend(node.operation for node in nodes)
    return found
