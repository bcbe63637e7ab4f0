"""Copies of layers whose configuration holds other layers: TimeDistributed, Bidirectional, RNN and their like."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import all_layers, inner_layers, replace_inner_layer

_STAND_IN = "keras_kd>StandIn"
_MAX_CHARACTERS = 500

Pair = tuple[keras.layers.Layer, keras.layers.Layer]


def held_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers directly inside a layer that its configuration describes one to one, in the order of the description.

    A layer that makes its inner layers itself, such as `MultiHeadAttention` or `LSTM`, holds none in this sense.

    >>> inner = keras.layers.Dense(2, name="inner")
    >>> [layer.name for layer in held_layers(keras.layers.TimeDistributed(inner))]
    ['inner']
    """
    inside = collections.defaultdict(list)
    for inner in inner_layers(layer):
        inside[_key(type(inner).__name__, inner.name)].append(inner)
    if not inside:
        return []
    try:
        keys = [key for key, _ in _descriptions(layer.get_config(), set(inside))]
    except NotImplementedError:
        return []
    return [
        inside[key][number]
        for key in dict.fromkeys(keys)
        if keys.count(key) == len(inside[key])
        for number in range(len(inside[key]))
    ]


def copy_around(layer: keras.layers.Layer, pairs: Sequence[Pair]) -> keras.layers.Layer:
    """A layer from the configuration of another, with fresh weights of its own, that holds other layers.

    Args:
        layer: the layer to copy.
        pairs: each layer of `held_layers`, and what the copy holds instead.

    Raises:
        ConfigurationError: the class refuses these layers, or makes its own from them.
    """
    made = [new for _, new in pairs]

    class StandIn:
        """Stands for a layer in a configuration: `from_config` returns the layer itself."""

        @classmethod
        def from_config(cls, config):
            return made[config["number"]]

    config = _with_stand_ins(layer.get_config(), pairs)
    try:
        with keras.saving.custom_object_scope({_STAND_IN: StandIn, **_own_classes(made)}):
            copy = type(layer).from_config(config)
        _put_in_place(layer, copy, pairs)
    except Exception as error:  # layers may be custom classes
        raise ConfigurationError(
            explain(
                f"{layer.name!r} cannot be built around the layers that replace those inside it.",
                received=in_one_line(error),
                expected=f"layers that {type(layer).__name__} accepts: "
                + ", ".join(f"{type(new).__name__} for {old.name!r}" for old, new in pairs),
                fix=f"Replace the {type(layer).__name__} as a whole.",
            )
        ) from error
    return copy


def in_one_line(error: Exception) -> str:
    """The class and the beginning of the text of an error, which Keras spreads over many lines.

    >>> in_one_line(ValueError("first\\n\\nsecond"))
    'ValueError: first second'
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("Arguments received by")[0]
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text if len(text) <= _MAX_CHARACTERS else f'{text[:_MAX_CHARACTERS]}...'}"


def _key(class_name: str, name: str) -> str:
    return f"{class_name} {name}"


def _descriptions(config: Any, keys: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The descriptions of layers with these keys, outermost first; what is inside them is theirs."""
    if isinstance(config, dict):
        settings = config.get("config")
        key = _key(str(config.get("class_name")), settings.get("name")) if isinstance(settings, dict) else ""
        if key in keys:
            yield key, config
            return
    values = config.values() if isinstance(config, dict) else config if isinstance(config, (list, tuple)) else ()
    for value in values:
        yield from _descriptions(value, keys)


def _with_stand_ins(config: dict[str, Any], pairs: Sequence[Pair]) -> dict[str, Any]:
    numbers = collections.defaultdict(list)
    for number, (old, _) in enumerate(pairs):
        numbers[_key(type(old).__name__, old.name)].append(number)
    for key, description in _descriptions(config, set(numbers)):
        description.clear()
        stand_in = {"class_name": "StandIn", "config": {"number": numbers[key].pop(0)}}
        description.update(stand_in, module=None, registered_name=_STAND_IN)
    return config


def _own_classes(layers: Sequence[keras.layers.Layer]) -> dict[str, type]:
    """Classes from outside Keras by name: `Bidirectional` serializes the layer that it is given."""
    kinds = {type(inner) for layer in layers for inner in all_layers(layer)}
    own = [kind for kind in kinds if not kind.__module__.startswith("keras.")]
    return {name: kind for kind in own for name in (kind.__name__, keras.saving.get_registered_name(kind))}


def _put_in_place(original: keras.layers.Layer, copy: keras.layers.Layer, pairs: Sequence[Pair]) -> None:
    """Puts the layers where the class made copies of them instead, as `Bidirectional` does with its forward layer."""
    places = {id(layer): path for path, layer in layers_by_path(original).items()}
    for old, new in pairs:
        if any(inner is new for inner in inner_layers(copy)):
            continue
        taken = layers_by_path(copy)[places[id(old)]]
        if hasattr(taken, "zero_output_for_mask"):
            new.zero_output_for_mask = taken.zero_output_for_mask
        replace_inner_layer(copy, taken, new)
