"""Checks that the curriculum of a recipe fits its data and its teacher."""

from __future__ import annotations

import numpy as np

from keras_kd import data
from keras_kd.data.curriculum.curriculum import check_difficulties
from keras_kd.errors import ConfigurationError, explain
from keras_kd.recipes.checked import Sides
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.curricula import make_curriculum
from keras_kd.recipes.making import pipeline
from keras_kd.recipes.reading.curricula import ByScores
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.teachers import Teacher

_EXAMPLES = 8


def check_curriculum(recipe: Recipe, sides: Sides, teacher: Teacher) -> None:
    """Arranges a few examples by the untrained teacher, or all by their scores.

    Raises:
        RecipeError: the data are read in order, or lack labels or classes that the curriculum needs; scores that do not
            fit; a teacher, or its cache, from which no difficulty of single examples follows.
    """
    settings = recipe.data.curriculum
    if settings is None:
        return
    source = sides.student
    with checking("data.curriculum"):
        curriculum = make_curriculum(settings)
        train = sides.examples(lambda side: side.train)
        whole = pipeline(recipe, train, recipe.student, source.num_classes, curriculum=curriculum)
        if isinstance(settings, ByScores):
            check_difficulties(curriculum.difficulties_by_id, whole.num_examples)
            return
        _check_labels(settings.name, source)
        if recipe.cache is not None and any(isinstance(step, data.Mixing) for step in whole.augment):
            raise ConfigurationError(
                explain(
                    "The cache contains the teacher's outputs for mixed images.",
                    received=f"{settings.name}, a cache, and an augmentation that mixes images",
                    expected="outputs of single images, from which their difficulty follows",
                    fix="Leave out the cache or the mixing, or use name: scores.",
                )
            )
        if not teacher.runs_outside_step:
            first = np.arange(min(_EXAMPLES, source.train.num_examples))
            few = sides.examples(lambda side: side.train.subset(first, "a few"))
            batches = pipeline(recipe, few, recipe.student, source.num_classes, curriculum=curriculum)
            batches.arranged_by(teacher, sides.inputs.get("teacher_inputs"))


def _check_labels(name: str, source: data.DataSource) -> None:
    """Raises `ConfigurationError` if a curriculum by the teacher's loss has examples without a label."""
    if name == "teacher_loss" and not source.task.has_label(source.train.labels()).all():
        raise ConfigurationError(
            explain(
                "The teacher's loss needs a label for each training example.",
                received="examples without a label",
                expected="name: teacher_confidence, which needs none",
            )
        )
