"""Checks that need no data, since opening the data may mean a long download."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import schedules
from keras_kd.distillers.checks import check_backend
from keras_kd.errors import ConfigurationError, RecipeError, check_number, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.checks.models import check_name
from keras_kd.recipes.making import make_optimizer, scheduled
from keras_kd.recipes.models import is_file
from keras_kd.recipes.reading.schema import Recipe, Training, is_given

_RANGES = {"alpha": (0.0, 1.0), "temperature": (1e-3, 1e3)}
_MAX_CHECKED_STEPS = 1_000_000


def check_settings(recipe: Recipe) -> None:
    """Raises `RecipeError` for settings that are wrong for any data."""
    with checking("KERAS_BACKEND"):
        check_backend()
    with checking("output_dir"):
        _check_folder(recipe.folder)
    if recipe.cache is not None and recipe.cache.folder is not None:
        with checking("cache.folder"):
            _check_folder(Path(recipe.cache.folder))
    for role, settings in trained_models(recipe).items():
        with checking(f"{role}.model"):
            check_name(settings.model)
        with checking(f"{role}.optimizer"):
            make_optimizer(settings, total_steps=1)
    check_schedules(recipe, total_steps=1)
    _check_given_student(recipe)
    if recipe.teacher is not None:
        for name in recipe.teacher.ensemble_with:
            with checking("teacher.ensemble_with"):
                _check_exists(name)
        _check_ensemble_settings(recipe.teacher)


def trained_models(recipe: Recipe) -> dict[str, Training]:
    """The models of a recipe that Keras builds or loads, by their names in messages."""
    assistants = {f"assistant {number}": settings for number, settings in enumerate(recipe.assistants, 1)}
    is_built = recipe.teacher is not None and (not is_given(recipe.teacher.model) or is_file(recipe.teacher.model))
    teacher = {"teacher": recipe.teacher} if is_built else {}
    named = enumerate(getattr(recipe.distillation, "named", ()), 2)  # the first peer is the student
    own_head = {"replace_head": False}
    peers = {f"peer {number}": recipe.student.model_copy(update={"model": name} | own_head) for number, name in named}
    return teacher | assistants | peers | {"student": recipe.student}


def _check_exists(name: str) -> None:
    if not Path(name).exists():
        expected = "a .keras or .tflite file, or a SavedModel folder"
        raise ConfigurationError(explain("file not found.", received=name, expected=expected))


def _check_given_student(recipe: Recipe) -> None:
    """Raises `RecipeError` if nothing can be done with a student that is not trained."""
    if recipe.student.epochs is not None:
        return
    for problem, received in (
        ("there is nothing to do", not recipe.compress and "compress: []"),
        ("nothing is trained with few labels", recipe.few_labels is not None and "few_labels"),
    ):
        if received:
            raise RecipeError(
                explain(
                    f"student.epochs: null means that the student is only compressed, but {problem}.",
                    received=received,
                    expected="a number of epochs; or items in compress, and few_labels: null",
                )
            )


def _check_ensemble_settings(teacher: Any) -> None:
    for name, default in (("weights", None), ("combine", "probabilities")):
        if getattr(teacher, name) != default and not (teacher.ensemble_with or teacher.snapshots):
            raise RecipeError(
                explain(
                    f"teacher.{name}: applies to ensembles only, and the recipe has a single teacher.",
                    received=getattr(teacher, name),
                    expected=f"teacher.ensemble_with: [b.keras, ...] as well, or no teacher.{name}",
                )
            )


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigurationError(explain("not a folder.", received=str(existing), expected="a folder"))
    try:
        if not os.access(existing, os.W_OK):
            raise PermissionError
        with tempfile.TemporaryFile(dir=existing):  # os.access is wrong for paths such as /proc
            pass
    except OSError:
        raise ConfigurationError(
            explain("the folder is not writable.", received=str(existing), expected="a writable folder")
        ) from None


def check_schedules(recipe: Recipe, total_steps: int) -> None:
    """Raises `RecipeError` if alpha or temperature leaves its range at a step of the training."""
    for section in ("distillation", "few_labels"):
        for name in _RANGES:
            value = getattr(getattr(recipe, section), name, None)
            if value is not None:
                with checking(f"{section}.{name}"):
                    _check_scheduled(name, scheduled(value, total_steps), total_steps)


def _check_scheduled(name: str, value: Any, total_steps: int) -> None:
    at_least, at_most = _RANGES[name]
    Hyperparameter(name, value, at_least=at_least, at_most=at_most)
    if isinstance(value, schedules.Schedule):
        every = -(-total_steps // _MAX_CHECKED_STEPS)
        course = np.asarray(value(np.append(np.arange(0, total_steps, every), total_steps - 1)))
        for extreme in (course.min(), course.max()):
            check_number(name, round(float(extreme), 6), at_least=at_least, at_most=at_most)
