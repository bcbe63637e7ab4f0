"""Checks that a copy shares no weight with the model, and shares within itself what the model does."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain

WeightPair = tuple[keras.layers.Layer, keras.Variable, keras.Variable]
"""A layer, one of its weights, and the weight of the copy that stands for it."""


def counterpart_of_variable(variable: keras.Variable, pairs: Iterable[WeightPair]) -> keras.Variable:
    """The variable of a copy that stands for a variable which the graph passes to an operation, as tied weights are.

    Args:
        variable: an argument in the graph of the original.
        pairs: the weights copied so far.

    Raises:
        ConfigurationError: no copied layer that runs before has this variable.
    """
    for _, weight, copy in pairs:
        if weight is variable:
            return copy
    raise ConfigurationError(
        explain(
            "The graph reads a variable of which the copy has no counterpart.",
            received=f"{variable.path!r} of shape {tuple(variable.shape)}",
            expected="a variable of a layer that runs before, and that is not replaced",
            fix="Move the operation that reads it into a layer with a `call` method.",
        )
    )


def check_lambda(layer: keras.layers.Layer) -> None:
    """Raises `ConfigurationError` for a Lambda whose function reads variables or layers from outside.

    The function is not copied, so that the copy would read, and train, the weights of the original.
    """
    if not isinstance(layer, keras.layers.Lambda) or not inspect.isfunction(layer.function):
        return
    used = inspect.getclosurevars(layer.function)
    outside = {**used.globals, **used.nonlocals}
    found = [name for name, value in outside.items() if isinstance(value, (keras.Variable, keras.layers.Layer))]
    if found:
        raise ConfigurationError(
            explain(
                f"A copy of the Lambda layer {layer.name!r} would use the weights of the original.",
                received=f"a function that reads {', '.join(map(repr, found))} from outside",
                expected="a function of its arguments alone",
                fix="Write a layer that takes the other layer in __init__ and describes it in get_config.",
            )
        )


def check_shared_weights(pairs: Iterable[WeightPair]) -> None:
    """Raises `ConfigurationError` if two layers share a weight and their copies do not.

    Args:
        pairs: the weights of all layers that were copied.
    """
    owners: dict[int, tuple[str, Any]] = {}
    for layer, weight, copy in pairs:
        owner, known = owners.setdefault(id(weight), (layer.name, copy))
        if known is not copy:
            raise ConfigurationError(
                explain(
                    f"{owner!r} and {layer.name!r} share weights that their copies would not share.",
                    received=f"the weight {weight.path!r} in both",
                    expected="layers whose configuration describes the layer that they share",
                    fix="Return keras.layers.serialize(layer) of the shared layer in get_config.",
                )
            )
