"""From the name of a model in a recipe to a model: one of ours, a `.keras` file, or a user's function."""

from __future__ import annotations

import importlib
import inspect
import itertools
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, models
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_heads, output_shapes
from keras_kd.features.shapes import same_shape
from keras_kd.keras_private import all_layers
from keras_kd.recipes.folder import settings_key
from keras_kd.serialization import nearest
from keras_kd.teachers.frozen import fingerprint


def is_file(name: str) -> bool:
    """Whether a model's name is that of a file rather than of a function."""
    return name.endswith(".keras")


def check_name(name: str) -> None:
    """Raises `ConfigurationError` where a name is known to lead nowhere, without the data."""
    if is_file(name):
        if not Path(name).exists():
            raise ConfigurationError(explain("the file is not there.", received=name, expected="a .keras file"))
    elif ":" in name:
        _import(name)
    elif name not in models.names():
        raise ConfigurationError(
            explain(
                "unknown model.",
                received=repr(name),
                expected=f"one of {', '.join(models.names())}, a .keras file, or module:function",
                fix=nearest(name, models.names()) or None,
            )
        )


def build(name: str, source: data.DataSource, seed: int) -> keras.Model:
    """A model by its name, for the images and classes of `source`; new weights depend on `seed` alone."""
    keras.utils.set_random_seed(seed)
    shape, num_classes = tuple(source.input_shape), source.num_classes
    if is_file(name):
        return load_file(name)
    if ":" in name:
        return _call(_import(name), name, input_shape=shape, num_classes=num_classes)
    return models.build(name, input_shape=shape, num_classes=num_classes)


def load_file(path: str | Path) -> keras.Model:
    """A model from a `.keras` file.

    Raises:
        ConfigurationError: it is no such file, or holds what this process does not know.
    """
    try:
        if Path(path).is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is not a .keras file, or a damaged one")  # Keras says that there is none
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a broken file makes Keras fail in many ways
        raise ConfigurationError(
            explain(
                f"the file cannot be loaded: {_first_line(error)}.",
                received=str(path),
                expected="what model.save('NAME.keras') writes",
            )
        ) from error


def _import(name: str) -> Callable[..., keras.Model]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
        inspect.signature(found)
    except Exception as error:  # whatever the user's module does
        raise ConfigurationError(
            explain(
                f"{_first_line(error)}.",
                received=name,
                expected="module:function, importable from here",
            )
        ) from error
    return found


def _call(function: Callable[..., keras.Model], name: str, **available: Any) -> keras.Model:
    """Calls a user's function with those of the arguments that it takes."""
    signature = inspect.signature(function)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    arguments = {k: v for k, v in available.items() if takes_all or k in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        expected = "a function that needs nothing but input_shape and num_classes"
        raise ConfigurationError(explain(f"{error}.", received=f"{name}{signature}", expected=expected)) from None
    try:
        return function(**arguments)
    except Exception as error:  # whatever the user's function does
        where = traceback.extract_tb(error.__traceback__)[:2][-1]
        raise ConfigurationError(
            f"{name} failed: {_first_line(error)} ({where.filename}, line {where.lineno})"
        ) from error


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return text if isinstance(error, (ImportError, ValueError)) and text else f"{type(error).__name__}: {text}"


def check_model(model: Any, role: str, source: data.DataSource) -> None:
    """Raises `ConfigurationError` where a model does not fit the data: its input, its classes, its last layer."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain(
                "This makes no model.",
                received=type(model).__name__,
                expected="a keras.Model" + " or a keras_kd teacher" * (role == "teacher"),
            )
        )
    if not model.built:
        model.build((None, *source.input_shape))
    shapes = output_shapes(model) or {"output": model.compute_output_shape((None, *source.input_shape))}
    received = next(iter(shapes.values()))
    if len(shapes) != 1 or tuple(received) != (None, source.num_classes):
        raise ConfigurationError(
            explain(
                f"The {role}'s outputs do not fit the data.",
                received=f"{shapes}",
                expected=f"one output of {source.num_classes} classes, as {source.name!r} has",
            )
        )
    expected = (None, *source.input_shape)
    wanted = tuple(model.input_shape) if getattr(model, "inputs", None) else expected
    if not same_shape(wanted, expected):
        raise ConfigurationError(
            explain(
                f"The {role}'s input does not fit the data.",
                received=f"{wanted}",
                expected=f"{expected}, as {source.name!r} has",
                fix="data.image_size resizes the images.",
            )
        )
    _check_finite(model, role)
    try:
        find_heads(model, role=role)
    except ConfigurationError:
        raise ConfigurationError(
            explain(
                f"Cannot tell whether the {role} ends in logits or in probabilities.",
                received=f"a {type(model).__name__} whose last operation is not a known one",
                expected="a Functional or Sequential model that ends in a layer such as Dense, or in a softmax",
            )
        ) from None


def check_trainable(model: keras.Model, role: str) -> None:
    """Raises `ConfigurationError` where training a model cannot change it."""
    if not model.trainable_weights:
        raise ConfigurationError(
            explain(
                f"The {role} has no trainable weights.",
                received=f"{len(model.weights)} weights, none of them trainable",
                expected="a model with trainable layers",
                fix="Set `trainable = True` on the model or its layers.",
            )
        )


def check_builds(model: keras.Model, again: keras.Model, name: str) -> None:
    """Raises `ConfigurationError` where a model is not made anew, with the same weights, each time it is asked for."""
    problem = None
    if _variables(model) & _variables(again):
        problem = "It gives the same layers at each call: what is trained first would change what is trained next."
    elif identity(model) != identity(again):
        problem = "It gives other weights or layers at each call: students would not start alike."
    if problem:
        raise ConfigurationError(
            explain(
                problem,
                received=name,
                expected="a new model at each call, whose weights depend on keras.utils.set_random_seed alone",
            )
        )


def check_apart(models: Mapping[str, keras.Model]) -> None:
    """Raises `ConfigurationError` where two models share layers: training one would change the other."""
    for (name, model), (other_name, other) in itertools.combinations(models.items(), 2):
        if shared := _variables(model) & _variables(other):
            raise ConfigurationError(
                explain(
                    f"{name} and {other_name} share layers: training one changes the other.",
                    received=f"{len(shared)} shared weights",
                    expected="models without common layers",
                    fix="Copy one with keras.models.clone_model.",
                )
            )


def _variables(model: keras.Model) -> set[int]:
    return {id(variable) for variable in model.variables}


def _check_finite(model: keras.Model, role: str) -> None:
    if lost := not_finite(model):
        raise ConfigurationError(
            explain(
                f"The {role} has weights that are not finite.",
                received=f"NaN or infinity in {', '.join(lost[:3])}",
                expected="finite weights",
            )
        )


def not_finite(model: keras.Model) -> list[str]:
    """The paths of weights that hold NaN or infinity."""
    values = ((weight.path, keras.ops.convert_to_numpy(weight)) for weight in model.weights)
    return [path for path, value in values if not np.isfinite(value.astype(np.float32)).all()]


def identity(model: keras.Model) -> str:
    """A hash of a model's layers and weights, the same in another process.

    The names of layers, which Keras numbers as they are made, do not count.
    """
    numbers = {layer.name: f"#{number}" for number, layer in enumerate(all_layers(model))}

    def unnamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: unnamed(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [unnamed(item) for item in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    try:
        config = unnamed(keras.saving.serialize_keras_object(model))
    except NotImplementedError:  # a subclassed model without get_config
        config = type(model).__name__
    return settings_key(config, fingerprint(model))
