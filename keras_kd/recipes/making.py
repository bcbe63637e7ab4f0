"""Makes optimizers, schedules, pipelines, distillers and teachers from the settings of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_kd import adversaries, data, schedules
from keras_kd.adversaries import Adversary
from keras_kd.curricula import Curriculum
from keras_kd.data.pairs.joining import PairedExamples
from keras_kd.distillers import Distiller
from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.multi_teacher import soft_targets_per_teacher
from keras_kd.recipes.models import build, is_file
from keras_kd.recipes.reading.schema import Distillation, Recipe, Training
from keras_kd.teachers import Ensemble, FrozenTeacher, Route, Teacher, from_path


def make_optimizer(settings: Training, total_steps: int, cycles: int = 1) -> keras.optimizers.Optimizer:
    """The optimizer of a training of `total_steps` steps, in which the learning rate decays `cycles` times."""
    rate: Any = settings.learning_rate
    if settings.learning_rate_decay == "cosine" and cycles > 1:
        rate = schedules.LearningRate(schedules.CosineRestarts(rate, 0.0, steps=total_steps // cycles))
    elif settings.learning_rate_decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
    config: dict[str, Any] = {"learning_rate": rate}
    if settings.weight_decay is not None:
        config["weight_decay"] = settings.weight_decay
    return type(keras.optimizers.get(settings.optimizer))(**config)


def scheduled(value: Any, total_steps: int) -> Any:
    """A number unchanged; a schedule with `steps` filled in if the recipe omits them."""
    if not isinstance(value, dict):
        return value
    takes_steps = value.get("name") in ("linear", "cosine", "exponential", "polynomial")
    return schedules.get({**({"steps": total_steps} if takes_steps else {}), **value})


def make_distiller(
    teacher: Any,
    student: keras.Model,
    settings: Distillation,
    total_steps: int,
    drop: float = 0.0,
    seed: int = 0,
    adversary: Adversary | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Distiller:
    """The distiller of a training of `total_steps` steps; `drop` is the probability to leave a teacher out.

    `inputs` are those of `Sides`, what teacher and student take of a pair.
    """
    losses = settings.losses and [_scheduled_within(loss, total_steps) for loss in settings.losses]
    names = list(teacher.output_shapes or ()) if isinstance(teacher, Teacher) else []
    if len(names) > 1:
        losses = soft_targets_per_teacher(student, names, drop, seed)
    return Distiller(
        teacher,
        student,
        alpha=scheduled(settings.alpha, total_steps),
        temperature=scheduled(settings.temperature, total_steps),
        losses=losses,
        adversary=adversary,
        supervise=settings.supervise,
        **(inputs or {}),
    )


def make_adversary(settings: Distillation, recipe: Recipe) -> Adversary | None:
    """The adversary of a distillation, in the value range of the recipe's data; None if it has none."""
    if settings.adversary is None:
        return None
    config = {**settings.adversary.model_dump(), "value_range": recipe.data.value_range}
    if config["name"] == "pgd":
        config["seed"] = recipe.seed % 2**31
    return adversaries.get(config)


def _scheduled_within(loss: Any, total_steps: int) -> Any:
    """The settings of a loss with all schedules built: for its weight, its temperature, and inner losses."""
    if not isinstance(loss, dict):
        return loss
    made = {}
    for key, value in loss.items():
        is_schedule = isinstance(value, dict) and value.get("name") in schedules.registry.names
        made[key] = scheduled(value, total_steps) if is_schedule else _scheduled_within(value, total_steps)
    return made


def views(recipe: Recipe) -> int | None:
    """The number of views of an image for all students, that of the cache; None means a fresh view each epoch."""
    return recipe.cache.views if recipe.cache is not None and recipe.augment else None


def pipeline(
    recipe: Recipe,
    examples: data.Split | PairedExamples,
    settings: Training,
    num_classes: int,
    views: int | None = None,
    curriculum: Curriculum | None = None,
) -> data.Pipeline:
    """The batches of a training; view v of an image is the same in every training of the run."""
    options = {"seed": recipe.seed, "num_classes": num_classes, "views": views, "curriculum": curriculum}
    return data.Pipeline(examples, augment=list(recipe.augment), batch_size=settings.batch_size, **options)


def open_teacher(name: str, recipe: Recipe, source: data.DataSource) -> Teacher:
    """A trained teacher, from its file or folder, or from a function."""
    if is_file(name):
        return FrozenTeacher(name, dtype=recipe.teacher.dtype)
    is_function = ":" in name and not Path(name).exists()
    return build(name, source, recipe.seed) if is_function else from_path(name)


def teacher_of(recipe: Recipe, model: keras.Model | Path | None, source: data.DataSource) -> Teacher:
    """The teacher: `model` (None if the recipe's teacher is not a Keras model), alone or in an ensemble."""
    settings = recipe.teacher
    if model is not None:
        teacher = FrozenTeacher(model, dtype=settings.dtype)
    elif settings.dtype is None:
        teacher = open_teacher(settings.model, recipe, source)
    else:
        raise ConfigurationError(
            explain(
                "Only Keras models support a 'dtype'.",
                received=f"dtype: {settings.dtype} with {settings.model}",
                expected="a Keras model, or dtype: null",
            )
        )
    if not settings.ensemble_with:
        return teacher
    others = [open_teacher(name, recipe, source) for name in settings.ensemble_with]
    return _ensemble([teacher, *others], recipe, source)


def teacher_of_snapshots(recipe: Recipe, snapshots: Sequence[keras.Model | Path], source: data.DataSource) -> Teacher:
    """The teacher that the student learns from, from the snapshots of the recipe's teacher, the first one first."""
    settings = recipe.teacher.snapshots
    if settings.use == "ensemble":
        members = [FrozenTeacher(one, dtype=recipe.teacher.dtype) for one in snapshots]
        return _ensemble(members, recipe, source)
    return Route(snapshots, every_epochs=recipe.student.epochs // settings.number)


def _ensemble(members: list[Teacher], recipe: Recipe, source: data.DataSource) -> Ensemble:
    """The members together, by what their outputs are: exclusive classes, independent labels or numbers."""
    settings, task = recipe.teacher, source.task
    if task.activations == ("linear",) and settings.combine != "logits":
        raise ConfigurationError(
            explain(
                "The outputs of this task are not probabilities.",
                received=f"the task {task.name!r}, and combine: {settings.combine}",
                expected="teacher.combine: logits, which averages outputs",
            )
        )
    weights = list(settings.weights) if isinstance(settings.weights, tuple) else settings.weights
    activation = "softmax" if task.has_classes else "sigmoid"
    return Ensemble(members, weights=weights, combine=settings.combine, activation=activation)
