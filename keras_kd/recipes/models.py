"""Builds or loads the model that a recipe names: a reference model, a `.keras` file, or a user's function."""

from __future__ import annotations

import importlib
import inspect
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_kd import data, models
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.keras_private import all_layers
from keras_kd.model_files import first_line, load_file
from keras_kd.recipes.engine.folder import settings_key
from keras_kd.teachers.frozen import fingerprint
from keras_kd.transfer import replace_head


def is_file(name: str) -> bool:
    """Whether a model name refers to a `.keras` file."""
    return name.endswith(".keras")


def build(name: str, source: data.DataSource, seed: int, *, new_head: bool = False) -> keras.Model:
    """A model by its name, for the inputs and outputs of `source`; new weights depend only on `seed`.

    With `new_head`, that of a file is replaced by one for the outputs of `source`, with the activation of the old one.

    A user's function is called with those of these arguments that it takes: `input_shape`, `num_classes` (the size of
    the last axis of the outputs, whatever the task), `label_shape` and, for token ids, `vocabulary_size`.
    """
    keras.utils.set_random_seed(seed)
    shape, num_classes = tuple(source.input_shape), source.num_classes
    if is_file(name):
        return _with_new_head(load_file(name), num_classes) if new_head else load_file(name)
    if ":" in name:
        available = {"input_shape": shape, "num_classes": num_classes, "label_shape": source.label_shape}
        if source.vocabulary_size is not None:
            available["vocabulary_size"] = source.vocabulary_size
        return _call(import_function(name), name, **available)
    if len(shape) != 3 or num_classes < 2:
        raise ConfigurationError(
            explain(
                f"The reference model {name!r} does not fit the data: it maps an image to two or more outputs.",
                received=f"examples of shape {shape}, {num_classes} output(s)",
                expected="examples (height, width, channels) and at least two outputs",
                fix="Name a function that builds a model for these data, as module:function.",
            )
        )
    return models.build(name, input_shape=shape, num_classes=num_classes)


def _with_new_head(model: keras.Model, num_classes: int) -> keras.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # that it keeps the activation
        return replace_head(model, num_classes)


def import_function(name: str) -> Callable[..., keras.Model]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
        inspect.signature(found)
    except Exception as error:  # the user's module may raise anything
        raise ConfigurationError(
            explain(
                f"{first_line(error)}.",
                received=name,
                expected="module:function, importable from here",
            )
        ) from error
    return found


def _call(function: Callable[..., keras.Model], name: str, **available: Any) -> keras.Model:
    """Calls a user's function with the available arguments that it accepts."""
    signature = inspect.signature(function)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    by_default = ("input_shape", "num_classes")  # the only ones passed to **settings
    arguments = {k: v for k, v in available.items() if k in signature.parameters or takes_all and k in by_default}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        expected = f"a function that requires no arguments other than {', '.join(available)}"
        raise ConfigurationError(explain(f"{error}.", received=f"{name}{signature}", expected=expected)) from None
    try:
        return function(**arguments)
    except Exception as error:  # the user's function may raise anything
        where = traceback.extract_tb(error.__traceback__)[:2][-1]
        raise ConfigurationError(
            f"{name} failed: {first_line(error)} ({where.filename}, line {where.lineno})"
        ) from error


def identity(model: keras.Model) -> str:
    """A hash of a model's layers and weights, the same in another process.

    The names of layers, which Keras numbers in order of creation, are ignored.
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
