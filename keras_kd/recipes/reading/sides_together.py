"""Checks that the other sections of a recipe fit a teacher that sees other inputs than the student."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_kd.errors import explain
from keras_kd.recipes.reading.sides import settings_of_student, settings_of_teacher


def problems_of_sides(recipe: Any) -> Iterator[str]:
    """A line per section that does not fit `data.teacher`; none without it."""
    if recipe.data.teacher is None:
        return
    for problem, received, expected in _checks(recipe):
        if received:
            yield explain(f"data.teacher: {problem}.", received=received, expected=expected)


def _checks(recipe: Any) -> Iterator[tuple[str, Any, str]]:
    """The checks: the problem, what was received (falsy where there is no problem), and what was expected."""
    is_same = settings_of_teacher(recipe.data) == settings_of_student(recipe.data)
    given = recipe.data.teacher.model_dump(exclude_none=True)
    yield (
        "teacher and student would see the same",
        is_same and (", ".join(given) or "an empty section"),
        "another source, image_size or value_range than in data, or data.teacher: null",
    )
    yield "the recipe has no teacher", recipe.teacher is None and "teacher: null", "data.teacher: null"
    method = recipe.distillation.method
    yield (
        "a student of this method does not learn from pairs of inputs",
        recipe.teacher is not None and method != "distiller" and f"distillation.method: {method}",
        "distillation.method: distiller, or data.teacher: null",
    )
    is_stored = recipe.teacher is not None and recipe.teacher.model.endswith(".npz")
    yield (
        "stored logits were computed before, from whatever inputs",
        is_stored and f"teacher.model: {recipe.teacher.model}",
        "a teacher that takes inputs, or data.teacher: null",
    )
    yield (
        "it is open whether an assistant sees what the teacher sees, or what the student sees",
        recipe.assistants and f"{len(recipe.assistants)} assistant(s)",
        "assistants: [], or data.teacher: null",
    )
    attacked = [
        section
        for section in ("distillation", "few_labels")
        if getattr(getattr(recipe, section), "adversary", None) is not None
    ]
    yield (
        "an adversary perturbs what both models see",
        ", ".join(f"{section}.adversary" for section in attacked),
        "adversary: null, or data.teacher: null",
    )
    yield (
        "under attack, models that see different inputs are not comparable",
        recipe.measure.robustness is not None and "measure.robustness",
        "measure.robustness: null, or data.teacher: null",
    )
