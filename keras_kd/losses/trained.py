"""Layers that were trained before the loss that uses them."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain


def fixed_copy(layer: Any, name: str) -> keras.layers.Layer:
    """A copy of a trained layer that is not trained further, so that the one given stays as it is.

    Raises:
        ConfigurationError: it is not a Keras layer, or it has never been called, so that it cannot have been trained.
    """
    is_layer = isinstance(layer, keras.layers.Layer)
    if not is_layer or not layer.built:
        raise ConfigurationError(
            explain(
                f"{name!r} cannot be used.",
                received=f"a {type(layer).__name__}" + (", never called" if is_layer else ""),
                expected="a trained Keras layer",
            )
        )
    copy = type(layer).from_config(layer.get_config())
    if not copy.built:
        copy.build_from_config(layer.get_build_config())
    copy.set_weights(layer.get_weights())
    copy.trainable = False
    return copy


def unset(loss: Any) -> Any:
    """The loss, whose values are NaN, rather than wrong, until the weights of its trained layers are loaded or set."""
    for layer in loss.trained_layers:
        for weight in layer.weights:
            weight.assign(ops.full(weight.shape, math.nan))
    return loss
