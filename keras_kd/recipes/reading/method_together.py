"""Checks that the sections of a recipe fit its method of distillation, before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_kd.errors import explain
from keras_kd.recipes.reading.methods import DataFree, Generator, Mutual


def problems_of_method(recipe: Any) -> Iterator[str]:
    """A line per section that the method of the recipe does not have."""
    method = recipe.distillation.method
    if method == "distiller":
        return
    for key, problem, received, expected in (*_shared(recipe), *_of_mutual(recipe), *_of_data_free(recipe)):
        if received:
            received = f"{received}, and distillation.method: {method}"
            yield explain(f"{key}: {problem}.", received=received, expected=expected)


def _shared(recipe: Any) -> Iterator[tuple[str, str, str, str]]:
    """The checks: the key, the problem, what was received (falsy where there is no problem), and what was expected."""
    no_teacher = "the student learns from other outputs than those of a teacher for training examples"
    yield "cache", no_teacher, recipe.cache and "a cache", "cache: null"
    yield "assistants", no_teacher, recipe.assistants and f"{len(recipe.assistants)} of them", "assistants: []"
    yield "guidance", no_teacher, recipe.guidance != "previous" and recipe.guidance, "guidance: previous"
    yield "drop", no_teacher, recipe.drop and f"{recipe.drop:g}", "drop: 0"
    few = recipe.few_labels and f"num_labels: {recipe.few_labels.num_labels}"
    yield "few_labels", "a comparison of students with a teacher and labels", few, "few_labels: null"
    curriculum = recipe.data.curriculum and f"name: {recipe.data.curriculum.name}"
    yield "data.curriculum", "an order for students of a teacher", curriculum, "data.curriculum: null"
    given = recipe.student.epochs is None and "null"
    yield "student.epochs", "a given student is not trained, and so not distilled", given, "a number of epochs"


def _of_mutual(recipe: Any) -> Iterator[tuple[str, str, str, str]]:
    settings = recipe.distillation
    frozen = isinstance(settings, Mutual) and recipe.student.unfreeze and str(recipe.student.unfreeze)
    yield "student.unfreeze", "the layers of several peers cannot be frozen at once", frozen, "student.unfreeze: null"
    is_copied = isinstance(settings, Mutual) and settings.mode != "one" and isinstance(settings.peers, int)
    file = (
        is_copied and recipe.student.model.endswith(".keras") and f"peers: {settings.peers} of {recipe.student.model}"
    )
    problem = "copies of a trained file would start alike, and have nothing to teach each other"
    yield "distillation.peers", problem, file, "a list of models"


def _of_data_free(recipe: Any) -> Iterator[tuple[str, str, str, str]]:
    if not isinstance(recipe.distillation, DataFree):
        return
    several = recipe.teacher.ensemble_with and ", ".join(recipe.teacher.ensemble_with)
    yield "teacher.ensemble_with", "images are synthesized from one teacher", several, "ensemble_with: []"
    is_generator = isinstance(recipe.distillation.synthesizer, Generator)
    frozen = is_generator and recipe.student.unfreeze and str(recipe.student.unfreeze)
    yield (
        "student.unfreeze",
        "all layers of the student learn from the images of a generator",
        frozen,
        "student.unfreeze: null",
    )
    unused = is_generator and recipe.teacher.epochs is None and recipe.augment and str(list(recipe.augment))
    yield (
        "augment",
        "the images of a generator are not augmented, and the teacher is not trained",
        unused,
        "augment: []",
    )
