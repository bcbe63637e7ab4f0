"""Replaces the layer of a classifier that has a unit for each class."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, Notice, check_choice, check_integer, explain
from keras_kd.features import find_heads
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.features.paths import has_activation
from keras_kd.serialization import look_up
from keras_kd.surgery import clone, copy_layer
from keras_kd.surgery.graph import check_graph
from keras_kd.surgery.wrappers import in_one_line
from keras_kd.transfer.class_layer import WIDTHS, ClassLayer, find_class_layer, not_a_head, width_of

ACTIVATIONS = ("linear", "softmax", "sigmoid")


def replace_head(
    model: keras.Model, num_classes: int, *, activation: str | None = None, output: str | None = None
) -> keras.Model:
    """A new model with the trunk of a trained classifier and a fresh head for other classes.

    The layer with a unit for each class is made anew, with its settings (initializers, regularizers, bias) and fresh
    weights. All other weights, flags and names are those of the model, which is not changed. A 1x1 convolution
    followed by pooling, flattening or an activation of its own is a head as well as a dense layer. The new model is
    not compiled.

    Args:
        model: a Functional or Sequential classifier, with models nested to any depth.
        num_classes: the units of the new head.
        activation: `"linear"` (logits), `"softmax"` or `"sigmoid"`. None keeps what the old head ends in, and a
            `Notice` says which.
        output: the name of the output, as in `kd.taps`; needed if the model has several.

    Raises:
        ConfigurationError: a subclassed model, several outputs, a head that cannot be told from the rest, or an
            activation that does not fit the number of classes.

    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="body"), keras.layers.Dense(10, name="head")]
    >>> small = replace_head(keras.Sequential(layers), num_classes=5, activation="linear")
    >>> small.output_shape, small.get_layer("head").units
    ((None, 5), 5)
    """
    check_integer("num_classes", num_classes, at_least=1)
    check_choice("activation", activation, (None, *ACTIVATIONS))
    check_graph(model)
    outputs = symbolic_outputs(model)
    tensor = outputs[_one_of(outputs, output)]
    found = find_class_layer(tensor)
    old = _activation_of(model, tensor, required=activation is None)
    _check_activation(found, activation or old, num_classes, chosen=activation is not None)
    replacements = _replacements(found, num_classes, activation if activation != old else None)
    try:
        replaced = clone(model, lambda layer: replacements.get(id(layer)), transfer=lambda layer, other: None)
    except ConfigurationError as error:
        raise not_a_head(found.layer, f"a model that no longer fits together: {in_one_line(error)}") from error
    _check_width(replaced, output, num_classes, found)
    if activation is None:
        warnings.warn(
            f"The new head {found.layer.name!r} of {model.name!r} has {num_classes} units and ends in "
            f"{'logits' if old == 'linear' else f'a {old}'}, as the old one did. Compile it with "
            f"from_logits={old == 'linear'}, or pass another activation to replace_head.",
            Notice,
            stacklevel=2,
        )
    return replaced


def _one_of(outputs: dict[str, Any], name: str | None) -> str:
    if name is not None:
        look_up("output", name, outputs)
        return name
    if len(outputs) == 1:
        return next(iter(outputs))
    raise ConfigurationError(
        explain(
            "The model has several outputs.",
            received=", ".join(map(repr, outputs)),
            fix="Name the one with the classes: replace_head(..., output=...).",
        )
    )


def _activation_of(model: keras.Model, tensor: Any, *, required: bool) -> str | None:
    """What a model's output is, as `find_heads` tells it; None if that is unknown and not required."""
    (name,) = (name for name, one in symbolic_outputs(model).items() if one is tensor)
    try:
        return find_heads(keras.Model(model.inputs, tensor))["output"].activation
    except ConfigurationError as error:
        if not required:
            return None
        raise ConfigurationError(
            explain(
                "Cannot tell whether the model ends in logits or in probabilities.",
                received=f"output {name!r} of {model.name!r}",
                expected=f"activation={', '.join(map(repr, ACTIVATIONS))}",
                fix="Pass the activation that the new head is to have.",
            )
        ) from error


def _check_activation(found: ClassLayer, activation: str, num_classes: int, *, chosen: bool) -> None:
    """Raises if an activation means nothing, or something else than before, for this number of classes."""
    problem = None
    if activation == "softmax" and num_classes == 1:
        problem, fix = "The softmax of a single unit is always 1.", "Pass activation='sigmoid', or num_classes=2."
    elif not chosen and width_of(found.layer) == 1 and num_classes > 1:
        problem = "The old head has a single unit: from it alone, exclusive classes cannot be told from labels."
        fix = "Pass activation='linear' (logits) or 'softmax' for exclusive classes, 'sigmoid' for independent labels."
    if problem is not None:
        received = f"activation={activation!r}, num_classes={num_classes}, a head of {width_of(found.layer)} units"
        raise ConfigurationError(explain(problem, received=received, fix=fix))


def _replacements(found: ClassLayer, num_classes: int, activation: str | None) -> dict[int, keras.layers.Layer]:
    """The new layers by the `id` of those they replace; `activation` None keeps the activations as they are."""
    changed = _with_width(_config(found.layer), num_classes, found.layer)
    made = {}
    for operation in found.after:
        if type(operation).__name__ == "Reshape":
            made[id(operation)] = _reshaped(operation, width_of(found.layer), num_classes)
    if activation is not None:
        applying = [operation for operation in found.after if _is_activation(operation)]
        if len(applying) > 1 or (applying and _inner(changed).get("activation") != "linear"):
            raise not_a_head(found.layer, "several activations between classes and output")
        if applying:
            made[id(applying[0])] = keras.layers.Activation(activation, dtype=applying[0].dtype_policy)
        elif found.after and activation != "linear" and _inner(changed).get("activation") == "linear":
            raise not_a_head(found.layer, f"no activation, and {found.after[-1].name!r} between it and the output")
        else:
            _inner(changed)["activation"] = activation
    return made | {id(found.layer): copy_layer(found.layer, changed)}


def _is_activation(operation: Any) -> bool:
    is_function = type(operation).__name__ in ("Softmax", "Sigmoid")
    return is_function or (isinstance(operation, keras.layers.Layer) and has_activation(operation))


def _config(layer: keras.layers.Layer) -> dict[str, Any]:
    if width_of(layer) is None:
        raise not_a_head(layer, f"a {type(layer).__name__}")
    return copy.deepcopy(layer.get_config())


def _inner(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a layer, or of the layer inside a wrapper."""
    return config["layer"]["config"] if "layer" in config else config


def _with_width(config: dict[str, Any], num_classes: int, layer: Any) -> dict[str, Any]:
    inner = layer.layer if type(layer).__name__ == "TimeDistributed" else layer
    _inner(config)[WIDTHS[type(inner).__name__]] = num_classes
    if getattr(inner, "groups", 1) > 1:
        raise not_a_head(layer, f"a {type(inner).__name__} with {inner.groups} groups")
    config.pop("build_config", None)
    return config


def _reshaped(layer: keras.layers.Layer, old: int, num_classes: int) -> keras.layers.Layer:
    config = layer.get_config()
    shape = list(config["target_shape"])
    if shape.count(old) == 1:
        shape[shape.index(old)] = num_classes
    elif old in shape:
        raise not_a_head(layer, f"a Reshape to {tuple(shape)}, in which the classes cannot be told")
    return copy_layer(layer, {**config, "target_shape": tuple(shape)})


def _check_width(model: keras.Model, output: str | None, num_classes: int, found: ClassLayer) -> None:
    outputs = symbolic_outputs(model)
    shape = tuple(outputs[_one_of(outputs, output)].shape)
    if shape[-1] != num_classes:
        raise not_a_head(found.layer, f"an output of shape {shape}")
