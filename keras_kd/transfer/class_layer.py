"""Finds the layer of a classifier that has a unit for each class."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import call_that_made

WIDTHS = {"Dense": "units", "Conv1D": "filters", "Conv2D": "filters", "Conv3D": "filters"}


@dataclasses.dataclass(frozen=True)
class ClassLayer:
    """The end of a model, from the class layer to the output.

    Attributes:
        layer: has a unit or filter for each class.
        after: the operations from there to the output, in order.
    """

    layer: keras.layers.Layer
    after: tuple[Any, ...]


def find_class_layer(tensor: Any) -> ClassLayer:
    """Follows an output back to the first layer with weights, also into nested models.

    Raises:
        ConfigurationError: before such a layer, an operation with several inputs.
    """
    after: list[Any] = []
    scopes: list[dict[int, Any]] = []  # the tensors around each nested model that stand for its inputs
    while True:
        while scopes and id(tensor) in scopes[-1]:
            tensor = scopes.pop()[id(tensor)]
        call, index = call_that_made(tensor)
        operation = call.operation
        if is_graph(operation):
            scopes.append(dict(zip(map(id, keras.tree.flatten(operation.inputs)), call.inputs, strict=True)))
            tensor = operation.outputs[index]
        elif getattr(operation, "weights", ()):
            return ClassLayer(operation, tuple(reversed(after)))
        elif len(call.inputs) != 1:
            raise not_a_head(operation, f"an operation with {len(call.inputs)} inputs between classes and output")
        else:
            after.append(operation)
            (tensor,) = call.inputs


def width_of(layer: Any) -> int | None:
    """The number of classes of a class layer; None for any other layer."""
    layer = layer.layer if type(layer).__name__ == "TimeDistributed" else layer
    return getattr(layer, WIDTHS.get(type(layer).__name__, ""), None)


def not_a_head(operation: Any, received: str) -> ConfigurationError:
    """The error for a model whose end, at this operation, is no class layer followed by simple operations."""
    return ConfigurationError(
        explain(
            f"The end of the model, at {operation.name!r}, is not a head that can be replaced.",
            received=received,
            expected="a Dense, 1x1 convolution or TimeDistributed layer with a unit for each class, then activations, "
            "pooling and reshaping alone",
            fix="Strip a compressed model first; build any other head with kd.surgery.clone(model, {path: layer}).",
        )
    )
