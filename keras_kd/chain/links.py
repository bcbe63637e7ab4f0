"""Checks of the models of a chain before training."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.distillers.defaults import compares_numbers
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.features import output_shapes
from keras_kd.teachers import Teacher, as_teacher


def take_models(models: Any, seed: int) -> tuple[Teacher, list[keras.Model]]:
    """The teacher and the models to train; raises `ConfigurationError` if they do not form a chain."""
    if not isinstance(models, (list, tuple)) or len(models) < 2:
        raise ConfigurationError(
            explain(
                "A chain needs a teacher and at least one model to train.",
                received=f"a list of {len(models)}" if isinstance(models, (list, tuple)) else repr(models),
                expected="[teacher, student], or [teacher, assistant, ..., student]",
            )
        )
    if callable(models[0]) and not isinstance(models[0], (keras.Model, Teacher)):
        raise ConfigurationError(
            explain(
                "The first model of a chain is its teacher, which must be trained already.",
                received="a function, which would build an untrained model",
                expected="a trained keras.Model, the path of a .keras file, or a keras_kd teacher",
            )
        )
    return as_teacher(models[0]), [_student(model, seed + index) for index, model in enumerate(models[1:])]


def _student(model: Any, seed: int) -> keras.Model:
    if callable(model) and not isinstance(model, keras.Model):
        keras.utils.set_random_seed(seed)
        model = model()
    if not isinstance(model, keras.Model) or not model.built:
        raise ConfigurationError(
            explain(
                "A model to train must be a built keras.Model.",
                received=f"{type(model).__name__}" + (", which is not built" if isinstance(model, keras.Model) else ""),
                expected="a keras.Model with weights, or a function without arguments that builds one",
                fix="Begin a Sequential with keras.Input(shape), or call the model once on a batch."
                if isinstance(model, keras.Model)
                else None,
            )
        )
    return model


def check_links(
    teacher: Teacher, students: list[keras.Model], *, guidance: str, drop: float, loss: Any, losses: Any
) -> None:
    """Raises `ConfigurationError` if models or settings do not fit together."""
    all_models = [getattr(teacher, "model", teacher), *students]
    if len({id(model) for model in all_models}) < len(all_models):
        raise ConfigurationError(
            explain(
                "A model appears twice in the chain, and cannot teach itself.",
                received=", ".join(getattr(model, "name", type(model).__name__) for model in all_models),
                expected="different models",
                fix="Pass a function that builds the model: [teacher, build, build].",
            )
        )
    if guidance == "all":
        _check_several_teachers(teacher, students, loss, losses)
    elif drop:
        raise ConfigurationError(
            explain(
                "`drop` requires several teachers, and guidance='previous' gives each model only one.",
                received=f"drop={drop:g}, guidance='previous'",
                expected="drop=0, or guidance='all'",
            )
        )
    if losses is None:
        _check_classes(
            [(teacher_name(teacher), teacher.output_shapes), *((s.name, output_shapes(s)) for s in students)]
        )
    if _looks_untrained(all_models[0]):
        message = (
            f"The teacher {teacher_name(teacher)!r} looks untrained: all of its biases still have their initial 0."
        )
        warnings.warn(message, Notice, stacklevel=3)


def _check_several_teachers(teacher: Teacher, students: list[keras.Model], loss: Any, losses: Any) -> None:
    """Raises `ConfigurationError` if a model cannot have several teachers."""
    if losses is not None:
        received, expected = "`losses`, which compare with one teacher", "losses=None: one soft-target term per teacher"
    elif compares_numbers(loss):
        received, expected = "a regression loss", "a cross-entropy, since each teacher gives soft targets"
    elif teacher.runs_outside_step and len(students) > 1:
        received = f"a {type(teacher).__name__}, whose outputs come with the batches"
        expected = "a teacher that is a model"
    elif any(len(output_shapes(model) or {"": None}) > 1 for model in students):
        received, expected = "a model with several outputs", "models with a single output"
    else:
        return
    raise ConfigurationError(
        explain(
            "These models or settings do not support guidance='all'.",
            received=received,
            expected=expected,
            fix="Set guidance='previous'.",
        )
    )


def _check_classes(shapes: list[tuple[str, Any]]) -> None:
    """Raises `ConfigurationError` if two neighboring single-output models differ in the number of classes."""
    known = [(name, next(iter(outputs.values()))[-1]) for name, outputs in shapes if outputs and len(outputs) == 1]
    for (name, classes), (next_name, next_classes) in zip(known[:-1], known[1:], strict=True):
        if classes != next_classes:
            raise ConfigurationError(
                explain(
                    "The models of a chain must have the same number of classes.",
                    received=f"{name!r} with {classes}, {next_name!r} with {next_classes}",
                    expected="the same number for all",
                )
            )


def _looks_untrained(model: Any) -> bool:
    """Whether all weights that are initialized to 0 are still 0."""
    weights = getattr(model, "weights", [])
    begin_at_zero = [weight for weight in weights if weight.name in ("bias", "beta", "moving_mean")]
    return bool(begin_at_zero) and not any(np.any(ops.convert_to_numpy(weight)) for weight in begin_at_zero)


def for_each(epochs: Any, count: int) -> list[int]:
    """The number of epochs of each of `count` trainings; raises `ConfigurationError` if they are invalid."""
    given = list(epochs) if isinstance(epochs, (list, tuple)) else [epochs] * count
    if len(given) != count or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in given):
        raise ConfigurationError(
            explain(
                "`epochs` must be a positive whole number, or one per model to train.",
                received=repr(epochs),
                expected=f"a whole number of at least 1, or a list of {count}",
            )
        )
    return given


def teacher_name(teacher: Teacher) -> str:
    """The name of the teacher's model; `"teacher"` if it has none."""
    return getattr(getattr(teacher, "model", None), "name", None) or "teacher"


def unique(names: list[str]) -> list[str]:
    """The names, with repeated ones numbered.

    >>> unique(["a", "b", "b"])
    ['a', 'b_1', 'b_2']
    """
    counted = [
        f"{name}_{names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)
    ]
    return counted if len(set(counted)) == len(counted) else [f"{name}_{i}" for i, name in enumerate(names)]
