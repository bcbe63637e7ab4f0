"""Checks that models fit the data and each other, and can be trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_kd import data, models
from keras_kd.chain.fitting import non_finite_weights
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_heads, output_shapes
from keras_kd.features.shapes import same_shape
from keras_kd.recipes.making import make_optimizer
from keras_kd.recipes.models import identity, import_function, is_file
from keras_kd.recipes.reading.schema import Training
from keras_kd.recipes.task import RecipeTask
from keras_kd.serialization import nearest
from keras_kd.transfer import unfreeze_gradually


def check_name(name: str) -> None:
    """Raises `ConfigurationError` if a model name cannot be resolved; needs no data."""
    if is_file(name):
        if not Path(name).exists():
            raise ConfigurationError(explain("file not found.", received=name, expected="a .keras file"))
    elif ":" in name:
        import_function(name)
    elif name not in models.names():
        raise ConfigurationError(
            explain(
                "unknown model.",
                received=repr(name),
                expected=f"one of {', '.join(models.names())}, a .keras file, or module:function",
                fix=nearest(name, models.names()) or None,
            )
        )


def check_model(model: Any, role: str, source: data.DataSource, task: RecipeTask) -> None:
    """Raises `ConfigurationError` if a model's input, outputs or last layer do not fit the data."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain(
                "The function did not return a Keras model.",
                received=type(model).__name__,
                expected="a keras.Model" + " or a keras_kd teacher" * (role == "teacher"),
            )
        )
    if not model.built:
        model.build((None, *source.input_shape))
    shapes = output_shapes(model) or {"output": model.compute_output_shape((None, *source.input_shape))}
    task.check_outputs(shapes, role)
    _check_input(model, role, source)
    _check_finite(model, role)
    task.check_outputs(shapes, role, _activations(model, role))


def check_trainable(model: keras.Model, role: str) -> None:
    """Raises `ConfigurationError` if a model has no trainable weights."""
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
    """Raises `ConfigurationError` unless each call of the function builds a new model with the same weights."""
    problem = None
    if _variables(model) & _variables(again):
        problem = "It returns the same layers on each call: training one model would change the next."
    elif identity(model) != identity(again):
        problem = "It returns different weights or layers on each call: students would not start from the same weights."
    if problem:
        raise ConfigurationError(
            explain(
                problem,
                received=name,
                expected="a new model on each call, with weights that depend on keras.utils.set_random_seed alone",
            )
        )


def check_unfreezing(model: keras.Model, settings: Training) -> None:
    """Raises `ConfigurationError` if the layers of a newly built model cannot be unfrozen as its settings say."""
    never = [epoch for epoch in settings.unfreeze if epoch >= settings.epochs]
    if never:
        raise ConfigurationError(
            explain(
                "Layers would never be unfrozen.",
                received=f"from epoch {never[0]} on, of {settings.epochs} epochs counted from 0",
                expected=f"epochs below {settings.epochs}",
            )
        )
    model.compile(make_optimizer(settings, 1), loss="mse")
    unfreeze_gradually(settings.unfreeze).prepare(model)


def check_apart(models: Mapping[str, keras.Model]) -> None:
    """Raises `ConfigurationError` if two models share layers, since training one would change the other."""
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


def _check_input(model: keras.Model, role: str, source: data.DataSource) -> None:
    expected = (None, *source.input_shape)
    received = tuple(model.input_shape) if getattr(model, "inputs", None) else expected
    if not same_shape(received, expected):
        raise ConfigurationError(
            explain(
                f"The {role}'s input does not fit the data.",
                received=f"{received}",
                expected=f"{expected}, as {source.name!r} has",
                fix="data.image_size resizes the images.",
            )
        )


def _activations(model: keras.Model, role: str) -> dict[str, str]:
    """The final activation of each output."""
    try:
        return {name: head.activation for name, head in find_heads(model, role=role).items()}
    except ConfigurationError:
        raise ConfigurationError(
            explain(
                f"Cannot tell whether the {role} ends in logits or in probabilities.",
                received=f"a {type(model).__name__} whose last operation is not a known one",
                expected="a Functional or Sequential model that ends in a layer such as Dense, or in a softmax",
            )
        ) from None


def _variables(model: keras.Model) -> set[int]:
    return {id(variable) for variable in model.variables}


def _check_finite(model: keras.Model, role: str) -> None:
    if lost := non_finite_weights(model):
        raise ConfigurationError(
            explain(
                f"The {role} has weights that are not finite.",
                received=f"NaN or infinity in {', '.join(lost[:3])}",
                expected="finite weights",
            )
        )
