"""The check before anything heavy: opens the data, builds both models, and holds them against each other."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, schedules
from keras_kd.distillers import Distiller
from keras_kd.errors import ConfigurationError, KerasKDError, Notice, RecipeError, check_number, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.recipes.building import build, check_model, check_name, identity, is_file, load_file
from keras_kd.recipes.schema import Distillation, Recipe, Training

_ROLES = ("teacher", "student")
_RANGES = {"alpha": (0.0, 1.0), "temperature": (1e-3, float("inf"))}


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A recipe whose parts are known to fit.

    Attributes:
        recipe: as it was read.
        source: the opened data.
        build_teacher, build_student: make the model anew, with weights that depend on the recipe's seed alone.
        identities: a hash by `"teacher"` and `"student"` of each model as it is built, see `identity`.
    """

    recipe: Recipe
    source: data.DataSource
    build_teacher: Callable[[], keras.Model]
    build_student: Callable[[], keras.Model]
    identities: dict[str, str]

    @property
    def teacher_is_given(self) -> bool:
        """Whether the teacher comes trained, as a file."""
        return is_file(self.recipe.teacher.model)


def assemble(recipe: Recipe) -> Assembly:
    """Tries every part once, what is quick before the data is opened; writes nothing.

    Raises:
        RecipeError: naming the key that does not fit.
    """
    _check_without_data(recipe)
    with _about("data"):
        settings = recipe.data.model_dump()
        source = data.open_source(settings.pop("source"), **settings, seed=recipe.seed)
    builders, identities, models = {}, {}, {}
    for role in _ROLES:
        builders[role] = functools.partial(build, getattr(recipe, role).model, source, recipe.seed)
        with _about(f"{role}.model"):
            models[role] = builders[role]()
            check_model(models[role], role, source)
        identities[role] = identity(models[role])
    total_steps = recipe.student.epochs * data.steps_per_epoch(source.train, recipe.student.batch_size)
    _check_schedules(recipe, total_steps)
    _check_losses(recipe, models, total_steps)
    _check_few_labels(recipe, source)
    return Assembly(recipe, source, builders["teacher"], builders["student"], identities)


def check_file(path: Path, role: str, source: data.DataSource) -> None:
    """Raises `RecipeError` where a `.keras` file that the recipe does not name holds no model that fits the data."""
    with _about(str(path)):
        check_model(load_file(path), role, source)


def make_optimizer(settings: Training, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training of `total_steps` steps."""
    rate: Any = settings.learning_rate
    if settings.learning_rate_decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
    config: dict[str, Any] = {"learning_rate": rate}
    if settings.weight_decay is not None:
        config["weight_decay"] = settings.weight_decay
    return type(keras.optimizers.get(settings.optimizer))(**config)


def scheduled(value: Any, total_steps: int) -> Any:
    """A number as it is; a schedule with `steps` filled in where the recipe left them out."""
    if not isinstance(value, dict):
        return value
    takes_steps = value.get("name") in ("linear", "cosine", "exponential", "polynomial")
    return schedules.get({**({"steps": total_steps} if takes_steps else {}), **value})


def make_distiller(teacher: Any, student: keras.Model, settings: Distillation, total_steps: int) -> Distiller:
    """The distiller of a training of `total_steps` steps."""
    losses = settings.losses and [_scheduled_within(loss, total_steps) for loss in settings.losses]
    return Distiller(
        teacher,
        student,
        alpha=scheduled(settings.alpha, total_steps),
        temperature=scheduled(settings.temperature, total_steps),
        losses=losses,
    )


def _scheduled_within(loss: Any, total_steps: int) -> Any:
    """The settings of a loss with its schedules made: its weight, its temperature, those of a loss inside it."""
    if not isinstance(loss, dict):
        return loss
    made = {}
    for key, value in loss.items():
        is_schedule = isinstance(value, dict) and value.get("name") in schedules.registry.names
        made[key] = scheduled(value, total_steps) if is_schedule else _scheduled_within(value, total_steps)
    return made


@contextlib.contextmanager
def _about(key: str) -> Iterator[None]:
    """Whatever a part of the check says is about `key`."""
    try:
        yield
    except (KerasKDError, ValueError, TypeError, OSError, ImportError) as error:
        raise RecipeError(f"{key}: {error}") from error


def _check_without_data(recipe: Recipe) -> None:
    """All that can be said before the data is opened, which may mean a long download."""
    with _about("output_dir"):
        _check_folder(recipe.folder)
    for role in _ROLES:
        settings: Training = getattr(recipe, role)
        with _about(f"{role}.model"):
            check_name(settings.model)
        with _about(f"{role}.optimizer"):
            make_optimizer(settings, total_steps=1)
    _check_schedules(recipe, total_steps=1)


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigurationError(explain("this is no folder.", received=str(existing), expected="a folder"))
    if not os.access(existing, os.W_OK):
        raise ConfigurationError(
            explain("nothing can be written there.", received=str(existing), expected="a folder of your own")
        )


def _check_schedules(recipe: Recipe, total_steps: int) -> None:
    """Alpha and temperature in their ranges, a schedule at every step of the training."""
    for section in ("distillation", "few_labels"):
        for name in _RANGES:
            value = getattr(getattr(recipe, section), name, None)
            if value is not None:
                with _about(f"{section}.{name}"):
                    _check_scheduled(name, scheduled(value, total_steps), total_steps)


def _check_scheduled(name: str, value: Any, total_steps: int) -> None:
    at_least, at_most = _RANGES[name]
    Hyperparameter(name, value, at_least=at_least, at_most=at_most)
    if isinstance(value, schedules.Schedule):
        course = np.asarray(value(np.arange(total_steps)))
        for extreme in (course.min(), course.max()):
            check_number(name, round(float(extreme), 6), at_least=at_least, at_most=at_most)


def _check_losses(recipe: Recipe, models: dict[str, keras.Model], total_steps: int) -> None:
    """Makes each distiller once: the losses, the layers that they name, and what they compare."""
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None and settings.losses is not None:
            with _about(f"{section}.losses"), warnings.catch_warnings():
                warnings.simplefilter("ignore", Notice)  # it is said when the training starts
                make_distiller(models["teacher"], models["student"], settings, total_steps)


def _check_few_labels(recipe: Recipe, source: data.DataSource) -> None:
    few = recipe.few_labels
    if few is None:
        return
    least, most = source.num_classes, source.train.num_examples
    if not least <= few.num_labels <= most:
        raise RecipeError(
            explain(
                "few_labels.num_labels: not usable.",
                received=few.num_labels,
                expected=f"{least} (one per class) to {most} (the training images)",
                fix="few_labels: null leaves the comparison out.",
            )
        )
