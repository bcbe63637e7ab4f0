"""The way back from compressed layers to a plain architecture."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_kd.compression.quantization.activations import ActivationQuantizer
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.surgery import clone
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.weights import copy_state, weights_by_name


def strip(model: keras.Model) -> keras.Model:
    """The plain architecture of a model whose layers are `Reparametrized`, with the weights that they were running on.

    Warns with a `Notice` if a weight is not yet what was asked for, such as one whose schedule has not ended.

    Raises:
        ConfigurationError: the model has no such layer.
    """
    check_model(model)
    compressed = reparametrized_layers(model)
    if not compressed:
        raise ConfigurationError(
            explain(
                f"{model.name!r} has nothing to strip.",
                received="a model without compressed layers",
                expected="a model made by `apply`",
            )
        )
    _warn_of_unfinished(compressed)

    def replace(layer):
        return copy_layer(layer.layer) if isinstance(layer, Reparametrized) else None

    def transfer(layer, copy):
        copy_state(layer.layer, copy)
        weights = weights_by_name(copy)
        for name, value in layer.effective_weights().items():
            weights[name].assign(value)

    return clone(model, replace, transfer=transfer, remove=lambda layer: isinstance(layer, ActivationQuantizer))


def stripped(model: keras.Model) -> keras.Model:
    """The plain architecture of a compressed model; any other model as it is."""
    return strip(model) if reparametrized_layers(model) else model


def reparametrized_layers(model: keras.Model) -> dict[str, Reparametrized]:
    """The compressed layers of a model, by path."""
    return {path: layer for path, layer in layers_by_path(model).items() if isinstance(layer, Reparametrized)}


def check_model(model: Any) -> None:
    """Raises `ConfigurationError` if this is not a Keras model."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain("Only a model can be compressed or stripped.", received=repr(model), expected="a keras.Model")
        )


def check_plain(model: Any) -> None:
    """Raises `ConfigurationError` if a model has compressed layers already."""
    check_model(model)
    if taken := reparametrized_layers(model):
        raise ConfigurationError(
            explain(
                f"{model.name!r} is compressed already.",
                received=", ".join(taken),
                expected="a model of plain layers",
                fix="Call strip(model) first.",
            )
        )


def _warn_of_unfinished(layers: dict[str, Reparametrized]) -> None:
    found: dict[str, list[str]] = {}
    for path, layer in layers.items():
        for name, function in layer.reparametrizations.items():
            if reason := function.unfinished():
                found.setdefault(reason, []).append(f"{path}/{name}")
    for reason, weights in found.items():
        message = f"Stripped before the training was complete: {', '.join(weights)}: {reason}."
        warnings.warn(Notice(message), stacklevel=3)
