"""Which weight of a Keras 3 layer is which variable of a `tf_keras` layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_kd.compression.tfmot.importing import import_tf_keras
from keras_kd.errors import ConfigurationError, explain

_STRIPPED_BY = {
    "PruneLowMagnitude": "tfmot.sparsity.keras.strip_pruning(model)",
    "ClusterWeights": "tfmot.clustering.keras.strip_clustering(model)",
}


def weight_pairs(path: str, layer: keras.layers.Layer, legacy: Any) -> list[tuple[Any, Any]]:
    """Each weight of a layer with its variable in `tf_keras`.

    Raises:
        ConfigurationError: other names, shapes or dtypes.
    """
    ours = _keyed(layer.weights, lambda weight: weight.path)
    theirs = _keyed(legacy.weights, lambda variable: variable.name.partition(":")[0])
    ours_shown, theirs_shown = _described(ours), _described(theirs)
    if type(layer).__name__ != type(legacy).__name__ or ours_shown != theirs_shown:
        raise ConfigurationError(
            explain(
                f"The weights of layer {path!r} do not correspond.",
                received=f"tf_keras: {type(legacy).__name__} with {theirs_shown}",
                expected=f"as in Keras 3: {type(layer).__name__} with {ours_shown}",
            )
        )
    return [(weight, theirs[name]) for name, weight in ours.items()]


def layers_with_weights(legacy: Any, prefix: str = "") -> dict[str, Any]:
    """The layers of a `tf_keras` model that have weights, by path; a shared layer by its first one."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for path, layer in _walk(legacy, prefix):
        if layer.weights and id(layer) not in seen:
            seen.add(id(layer))
            found[path] = layer
    return found


def check_stripped(legacy: Any) -> None:
    """Raises `ConfigurationError` if TFMOT wraps layers of the model."""
    wrapped = {
        path: type(layer).__name__
        for path, layer in _walk(legacy, "")
        if type(layer).__module__.startswith("tensorflow_model_optimization")
    }
    if wrapped:
        fixes = [fix for kind, fix in _STRIPPED_BY.items() if kind in wrapped.values()]
        raise ConfigurationError(
            explain(
                f"{legacy.name!r} has not been stripped.",
                received=", ".join(f"{path} ({kind})" for path, kind in wrapped.items()),
                expected="a model of plain layers",
                fix=f"Call {' and '.join(fixes)} first."
                if fixes
                else "TFMOT cannot strip a quantized model: export it to .tflite with TensorFlow's converter.",
            )
        )


def finalize(layer: Any) -> None:
    """Recomputes what `Normalization` derives from its weights."""
    if type(layer).__name__ == "Normalization" and layer.weights:
        layer.finalize_state()


def _walk(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, import_tf_keras().Model):
            yield from _walk(layer, f"{path}/")
        else:
            yield path, layer


def _keyed(weights: list[Any], path_of: Any) -> dict[str, Any]:
    """Weights by the end of their name, numbered where one occurs twice: both libraries create them in one order."""
    found: dict[str, Any] = {}
    for weight in weights:
        name = path_of(weight).split("/")[-1].removeprefix("depthwise_")
        number = sum(key.partition("#")[0] == name for key in found)
        found[f"{name}#{number}" if number else name] = weight
    return found


def _described(weights: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{keras.backend.standardize_dtype(weight.dtype)}{tuple(weight.shape)}"
        for name, weight in weights.items()
    }
