"""Checks that the student can be attacked, and that robustness can be measured, on the data of a recipe."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from keras_kd import data
from keras_kd.adversaries import FGSM
from keras_kd.distillers.robust.checks import check_arrays
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.making import make_adversary, make_distiller, pipeline
from keras_kd.recipes.reading.schema import Distillation, Recipe
from keras_kd.recipes.task import RecipeTask
from keras_kd.teachers import Teacher

_EXAMPLES = 1000


def check_adversaries(
    recipe: Recipe, teacher: Teacher, student: keras.Model, source: data.DataSource, task: RecipeTask, total_steps: int
) -> None:
    """Makes each distiller with an adversary once, and attacks nothing.

    Raises:
        RecipeError: the task has no exclusive classes; the models, the losses or the inputs cannot be used with it.
    """
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is None or settings.adversary is None:
            continue
        with checking(f"{section}.adversary"), warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # shown when the training starts
            if not source.task.has_classes:
                raise _no_classes(source)
            adversary = make_adversary(settings, recipe)
            make_distiller(teacher, student, settings, total_steps, adversary=adversary).compile(
                loss=task.loss(student, mixed=False)
            )
            check_arrays(adversary, _sample(recipe, source, settings))


def check_robustness(recipe: Recipe, source: data.DataSource, task: RecipeTask) -> None:
    """Raises `RecipeError` if the robustness of classifiers cannot be measured on the test split."""
    settings = recipe.measure.robustness
    if settings is None:
        return
    with checking("measure.robustness"):
        if not task.is_classification or source.num_classes < 2:
            raise _no_classes(source)
        if settings.examples is not None and settings.examples > source.test.num_examples:
            raise ConfigurationError(
                explain(
                    "'examples' is larger than the test split.",
                    received=settings.examples,
                    expected=f"at most {source.test.num_examples}, or null for all of them",
                )
            )
        if not (source.test.labels() >= 0).any():
            raise ConfigurationError("No test example has a label.")
        ball = FGSM(settings.epsilon, norm=settings.norm, value_range=recipe.data.value_range)
        check_arrays(ball, _first(source.test))


def _no_classes(source: data.DataSource) -> ConfigurationError:
    return ConfigurationError(
        explain(
            "An adversary attacks the decision among exclusive classes.",
            received=f"the task {source.task.name!r}",
            expected="a classification",
        )
    )


def _sample(recipe: Recipe, source: data.DataSource, settings: Distillation) -> Any:
    """Augmented training inputs: an augmentation such as noise may leave the value range."""
    batches = pipeline(recipe, source.train, recipe.student, source.num_classes)
    if not batches.augment:
        return _first(source.train)
    ids = np.arange(min(_EXAMPLES, batches.num_examples))
    return next(iter(batches.in_order(len(ids))))[1][0]


def _first(split: data.Split) -> np.ndarray:
    return next(iter(data.evaluation_batches(split, _EXAMPLES).as_numpy_iterator()))[0]
