"""Checks the arguments of an export before the conversion: the model, the format, the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import all_layers
from keras_kd.litert import Format

_NUM_SHOWN = 3
_LOOKUPS = tuple(
    getattr(keras.layers, name)
    for name in ("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "HashedCrossing")
)


def check_calibration(form: Format, calibration: Any) -> None:
    """Raises `ConfigurationError` without calibration samples for a format that needs them."""
    if form.needs_calibration and calibration is None:
        raise ConfigurationError(
            explain(
                f"The format {form.name!r} needs `calibration`.",
                received="None",
                expected="a few hundred real samples in the scale that the model takes",
                fix="For example a part of the training images: `calibration=x_train[:200]`.",
            )
        )


def check_target(path: str | Path) -> Path:
    """The path of the file to write; raises `ConfigurationError` if it cannot be the path of a TFLite file."""
    if not isinstance(path, (str, os.PathLike)):
        raise _wrong_path("`path` must be a path.", repr(path), "the path of a .tflite file")
    path = Path(path)
    try:
        if "\0" in str(path):  # pathlib treats such a path as a missing file
            raise ValueError("it contains a zero byte")
        is_folder, file_above = path.is_dir(), next((above for above in path.parents if above.is_file()), None)
    except (OSError, ValueError) as error:  # not a valid file name
        problem = f"`path` is not a valid path: {error.args[-1]}."
        raise _wrong_path(problem, f"{str(path)[:60]!r}...", "the path of a .tflite file") from None
    if file_above is not None:
        raise _wrong_path("`path` is below a file.", str(file_above), "a folder there")
    if is_folder:
        raise _wrong_path("`path` is a folder.", path, "a file to write", "Add a file name.")
    if path.suffix.lower() != ".tflite":
        fix = f"For example {str(path.with_suffix('.tflite'))!r}."
        raise _wrong_path("`path` must name a TFLite file.", repr(str(path)), "a name that ends in .tflite", fix)
    return path


def _wrong_path(problem: str, received: Any, expected: str, fix: str | None = None) -> ConfigurationError:
    return ConfigurationError(explain(problem, received=received, expected=expected, fix=fix))


def check_exportable(model: Any) -> None:
    """Raises `ConfigurationError` for a model that cannot be exported.

    These are a distiller, whose student should be exported instead; a model that takes text or uses look-up tables; and
    one with weights that are NaN or infinite.
    """
    if isinstance(getattr(model, "student", None), keras.Model):
        raise ConfigurationError(
            explain(
                "Export the student, not the model that trains it.",
                received=type(model).__name__,
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
            fix="Export the part of the model after it, which takes integers, and do the look-up in the app.",
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
                fix="Its training diverged: train again, for example with a lower learning rate.",
            )
        )


def _is_finite(weight: keras.Variable) -> bool:
    if not keras.backend.is_float_dtype(weight.dtype):
        return True
    return bool(np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32"))).all())
