"""Layers by path: `"backbone/block_3/relu"` names a layer at any nesting depth."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import output_shapes
from keras_kd.keras_private import MASKED_SOFTMAX, inner_layers, is_bookkeeping

POINTS = ("output", "input", "preactivation", "scores", "raw_scores")


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in a model at which values can be captured.

    Attributes:
        path: as the user wrote it.
        operation: the layer, or another operation of a Functional graph.
        point: the value to capture, one of `POINTS`.
        call: the index of the call in one forward pass, from 0; None if there is only one.
    """

    path: str
    operation: Any
    point: str = "output"
    call: int | None = None


def find_place(model: keras.Model, path: str, *, role: str = "model") -> Place:
    """Resolves a path to a place.

    `"stage_2/relu"` is the output of the layer `relu` inside `stage_2`. A colon selects another value: `"relu:input"`
    (its input), `"conv:preactivation"` (the input of its activation function), and for an attention layer
    `"attention:scores"` (after the softmax, `[batch, heads, queries, keys]`) and `"attention:raw_scores"` (before it).
    `"encoder#1"` is the second call of a layer that runs more than once.

    Raises:
        ConfigurationError: if there is no such layer, or the layer has no such value.
    """
    name, point, call = _parse(path)
    operation = _look_up(model, name)
    if operation is None:
        outputs = " or ".join(map(repr, output_shapes(model) or {}))
        raise ConfigurationError(
            explain(
                f"The {role} {model.name!r} has no output or layer with this path.",
                received=repr(path),
                expected=f"an output ({outputs}) or the path of a layer" if outputs else "the path of a layer",
                fix=" ".join(
                    filter(None, (_nearest(name, list(layers_by_path(model))), "keras_kd.taps(model) lists all."))
                ),
            )
        )
    _check_point(path, operation, point)
    return Place(path, operation, point, call)


def leads_to_layer(model: keras.Model, path: str) -> bool:
    """Whether a path names a layer of the model."""
    return _look_up(model, _parse(path)[0]) is not None


def _look_up(model: keras.Model, name: str) -> Any:
    return layers_by_path(model).get(name) or _by_own_names(model).get(name)


def layers_by_path(model: Any) -> dict[str, Any]:
    """All layers (and other operations of a Functional graph) inside a model, by path.

    Inside Functional and Sequential models a path uses the layer's name; inside subclassed ones the attribute that
    holds it (`"blocks/0"` for the first of a list), which unlike Keras' automatic names is the same in every process.
    """
    return dict(_walk(model, "", by_attribute=True, above=()))


def _by_own_names(model: Any) -> dict[str, Any]:
    """The layers by their own names alone."""
    return dict(_walk(model, "", by_attribute=False, above=()))


def _walk(owner: Any, prefix: str, *, by_attribute: bool, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    for name, operation in _children(owner, by_attribute=by_attribute):
        if id(operation) in above:
            continue
        path = f"{prefix}{name}"
        yield path, operation
        yield from _walk(operation, f"{path}/", by_attribute=by_attribute, above=(*above, id(operation)))


def _children(owner: Any, *, by_attribute: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, keras.Sequential):
        yield from ((layer.name, layer) for layer in owner.layers)
    elif getattr(owner, "outputs", None) and isinstance(owner, keras.Model):
        yield from ((operation.name, operation) for operation in owner.operations)
    elif isinstance(owner, keras.layers.Layer):
        names = _attribute_names(owner) if by_attribute else {}
        for layer in inner_layers(owner):
            yield names.get(id(layer), layer.name), layer


def _attribute_names(owner: Any) -> dict[int, str]:
    """The attribute that holds each layer; a private one is used only if the layer has an automatic name."""
    names: dict[int, str] = {}
    for attribute, value in vars(owner).items():
        if is_bookkeeping(attribute):
            continue
        for layer, path in _held(value, attribute):
            if not attribute.startswith("_") or _is_named_by_keras(layer):
                names.setdefault(id(layer), path)
    return names


def _held(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """The layers in an attribute, including nested lists and dicts, with their positions."""
    if isinstance(value, keras.layers.Layer):
        yield value, path
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _held(item, f"{path}/{key}")


def _is_named_by_keras(layer: Any) -> bool:
    """
    >>> _is_named_by_keras(keras.layers.Conv2D(1, 1)), _is_named_by_keras(keras.layers.Conv2D(1, 1, name="stem"))
    (True, False)
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(layer).__name__))
    return re.fullmatch(rf"{re.escape(words.lower())}(_\d+)?", layer.name) is not None


def _parse(path: str) -> tuple[str, str, int | None]:
    """
    >>> _parse("encoder/attention#1:scores")
    ('encoder/attention', 'scores', 1)
    """
    name, point, call = path, "output", None
    head, colon, tail = name.rpartition(":")
    if colon and tail in POINTS:
        name, point = head, tail
    head, hash_sign, tail = name.rpartition("#")
    if hash_sign and tail.isdigit():
        name, call = head, int(tail)
    return name, point, call


def has_activation(operation: Any) -> bool:
    """Whether an operation ends in an activation function of its own; in a recurrent layer it belongs to the cell."""
    is_passed_on = isinstance(getattr(type(operation), "activation", None), property)
    return not is_passed_on and callable(getattr(operation, "activation", None))


def _check_point(path: str, operation: Any, point: str) -> None:
    is_there = {
        "preactivation": has_activation(operation),
        "scores": hasattr(operation, MASKED_SOFTMAX),
        "raw_scores": hasattr(operation, MASKED_SOFTMAX),
    }
    if not is_there.get(point, True):
        needed = "a layer with an activation" if point == "preactivation" else "a MultiHeadAttention layer"
        raise ConfigurationError(
            explain(f"This layer has no {point}.", received=f"{path!r}, a {type(operation).__name__}", expected=needed)
        )


def _nearest(name: str, names: list[str]) -> str:
    """The closest paths, those that end in this name first."""
    ending = [other for other in names if other.endswith(f"/{name}")]
    close = [*ending, *difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
    leaves = difflib.get_close_matches(name.split("/")[-1], [other.split("/")[-1] for other in names], n=3, cutoff=0.6)
    close += [other for other in names if other.split("/")[-1] in leaves]
    names = " or ".join(map(repr, list(dict.fromkeys(close))[:3]))
    return f"Did you mean {names}?" if names else ""
