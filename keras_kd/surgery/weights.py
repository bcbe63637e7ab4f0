"""Transfers the state of a layer: all of it to a copy, weights of the same names to a replacement."""

from __future__ import annotations

import tempfile
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import all_layers, inner_layers, set_trainable_flag


def copy_state(original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Gives a copy made from a layer's configuration all state of that layer: weights, vocabularies, trainable flags.

    The state is transferred as in saving and loading, because layers have more than weights: `Normalization` computes
    constants from them, and a lookup has a table.

    Raises:
        ConfigurationError: the copy has other inner layers.
    """
    pairs = list(zip(all_layers(original), all_layers(copy), strict=False))
    if [type(layer) for layer in all_layers(original)] != [type(layer) for layer in all_layers(copy)]:
        raise ConfigurationError(
            explain(
                f"The copy of {original.name!r} has other inner layers.",
                received=", ".join(type(layer).__name__ for layer in all_layers(copy)),
                expected=", ".join(type(layer).__name__ for layer in all_layers(original)),
                fix=f"Let {type(original).__name__}.get_config return every argument of its __init__.",
            )
        )
    for one, other in pairs:
        copy_own_state(one, other)


def copy_own_state(original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Gives a copy the state of a layer that is not that of the layers inside it."""
    _copy_variables(original, copy)
    set_trainable_flag(copy, original.trainable)
    for one, other in zip(own_weights(original), own_weights(copy), strict=True):
        if other.trainable != one.trainable:
            other.trainable = one.trainable


def own_weights(layer: keras.layers.Layer) -> list[Any]:
    """The weights of a layer that are not those of the layers inside it."""
    inside = {id(weight) for inner in inner_layers(layer) for weight in inner.weights}
    return [weight for weight in layer.weights if id(weight) not in inside]


def _copy_variables(original: Any, copy: Any) -> None:
    store: dict[str, Any] = {}
    original.save_own_variables(store)
    if store:
        copy.load_own_variables({key: ops.convert_to_numpy(value) for key, value in store.items()})
    if hasattr(original, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            original.save_assets(folder)
            copy.load_assets(folder)


def carry_weights(original: keras.layers.Layer, replacement: keras.layers.Layer) -> None:
    """Gives a replacement the weights of a layer, by name: `kernel`, `bias`, `cell/kernel` of a layer inside.

    Further weights of the replacement keep their values.

    Raises:
        ConfigurationError: a weight has no counterpart of its name and shape.
    """
    weights, targets = weights_by_name(original), weights_by_name(replacement)
    shapes = {name: tuple(weight.shape) for name, weight in targets.items()}
    missing = [name for name, weight in weights.items() if shapes.get(name) != tuple(weight.shape)]
    if missing:
        raise ConfigurationError(
            explain(
                f"The replacement of {original.name!r} lacks some of its weights.",
                received=f"a {type(replacement).__name__} with weights {shapes}",
                expected=", ".join(f"{name} of shape {tuple(weights[name].shape)}" for name in missing),
                fix="Pass transfer=function to fill it; the function gets the layer and its replacement.",
            )
        )
    for name, weight in weights.items():
        targets[name].assign(ops.convert_to_numpy(weight))


def weights_by_name(layer: keras.layers.Layer) -> dict[str, Any]:
    """The weights of a layer and of the layers inside it, by path and name; numbered where one name occurs twice.

    >>> dense = keras.layers.Dense(1)
    >>> dense.build((None, 1))
    >>> list(weights_by_name(dense))
    ['kernel', 'bias']
    """
    named: dict[str, Any] = {}
    seen: set[int] = set()
    for path, owner in {"": layer, **layers_by_path(layer)}.items():
        for weight in own_weights(owner) if isinstance(owner, keras.layers.Layer) else ():
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            name = f"{path}/{weight.name}" if path else weight.name
            named[name if name not in named else f"{name}#{len(named)}"] = weight
    return named
