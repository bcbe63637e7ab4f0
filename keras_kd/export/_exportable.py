"""Rejects models that cannot become a TFLite file, before conversion."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import all_layers

_NUM_SHOWN = 3
_LOOKUPS = tuple(
    getattr(keras.layers, name)
    for name in ("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "HashedCrossing")
)


def check_exportable(model: Any) -> None:
    """Raises `ConfigurationError` for a model that cannot be exported.

    These are a distiller, whose student should be exported instead; a model that takes text or uses look-up tables; and
    one with weights that are NaN or infinite.
    """
    if isinstance(getattr(model, "student", None), keras.Model):
        raise ConfigurationError(
            explain(
                "This trains a student; the file is made of the student.",
                received=f"a {type(model).__name__}",
                expected="the student itself",
                fix="Pass `distiller.student`.",
            )
        )
    if isinstance(model, keras.Model) and model.built:
        _check_layers(model)
        _check_weights(model)


def _check_layers(model: keras.Model) -> None:
    lookups = [layer for layer in all_layers(model) if isinstance(layer, _LOOKUPS)]
    texts = [tensor.name for tensor in getattr(model, "inputs", None) or [] if tensor.dtype == "string"]
    if not lookups and not texts:
        return
    named = [f"layer {type(layer).__name__} {layer.name!r}" for layer in lookups]
    raise ConfigurationError(
        explain(
            "TFLite has no operators for text and look-up tables.",
            received=", ".join([*(f"text input {name!r}" for name in texts), *named]),
            expected="numbers as inputs, and layers that compute with them",
            fix="Export the part of the model behind it, which takes integers, and do the look-up in the app.",
        )
    )


def _check_weights(model: keras.Model) -> None:
    broken = [weight.path for weight in model.weights if not _is_finite(weight)]
    if broken:
        more = f" and {len(broken) - _NUM_SHOWN} more" if len(broken) > _NUM_SHOWN else ""
        raise ConfigurationError(
            explain(
                "The model has weights that are NaN or infinite.",
                received=", ".join(broken[:_NUM_SHOWN]) + more,
                expected="finite weights",
                fix="Its training diverged: train it again, for example with a lower learning rate.",
            )
        )


def _is_finite(weight: keras.Variable) -> bool:
    if not keras.backend.is_float_dtype(weight.dtype):
        return True
    return bool(np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32"))).all())
