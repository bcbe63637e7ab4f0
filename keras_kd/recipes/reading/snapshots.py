"""The key `teacher.snapshots`: students learn from the teacher at several times of its training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from keras_kd.errors import explain
from keras_kd.recipes.reading.section import Section


class Snapshots(Section):
    """The teacher, saved `number` times at equal distances while it is trained; the last is the finished teacher.

    `ensemble`: the learning rate starts again after each of them, and all teach together, see
    `keras_kd.teachers.Ensemble`. `route`: they teach one after the other, each for an equal part of the student's
    training, see `keras_kd.teachers.Route`.
    """

    number: int = Field(ge=2, le=1000)
    use: Literal["ensemble", "route"]


def problems_of_snapshots(recipe: Any) -> Iterator[str]:
    """A line for each key that does not fit the snapshots of the teacher."""
    settings = recipe.teacher and recipe.teacher.snapshots
    if not settings:
        return
    checks = [*_of_any(recipe, settings), *(_of_route(recipe, settings) if settings.use == "route" else ())]
    for problem, received, expected in checks:
        if received:
            received = f"number: {settings.number}, use: {settings.use}, and {received}"
            yield explain(f"teacher.snapshots: {problem}.", received=received, expected=expected)


def _of_any(recipe: Any, settings: Snapshots) -> Iterator[tuple[str, Any, str]]:
    """The checks: the problem, what was received (falsy where there is no problem), and what was expected."""
    teacher, method = recipe.teacher, recipe.distillation.method
    given = (teacher.is_trained_file or teacher.epochs is None) and f"teacher.model: {teacher.model}"
    yield "this teacher is not trained here", given, "a teacher that is trained, or snapshots: null"
    uneven = teacher.epochs and teacher.epochs % settings.number and f"teacher.epochs: {teacher.epochs}"
    yield "they divide the epochs of the teacher equally", uneven, f"a multiple of {settings.number} epochs"
    other = teacher.ensemble_with and f"teacher.ensemble_with: [{', '.join(teacher.ensemble_with)}]"
    yield "the teacher is in one ensemble at most", other, "ensemble_with: [], or snapshots: null"
    other = method != "distiller" and f"distillation.method: {method}"
    yield "the student of this method does not learn from them", other, "method: distiller, or snapshots: null"


def _of_route(recipe: Any, settings: Snapshots) -> Iterator[tuple[str, Any, str]]:
    teacher, student = recipe.teacher, recipe.student
    for key, default in (("dtype", None), ("weights", None), ("combine", "probabilities")):
        value = getattr(teacher, key)
        of_others = value != default and f"teacher.{key}: {value}"
        yield f"a route has no {key}, since its teachers take turns", of_others, f"no teacher.{key}, or use: ensemble"
    given = student.epochs is None and "student.epochs: null"
    yield "a student that is not trained follows no route", given, "a number of epochs, or use: ensemble"
    short = student.epochs and student.epochs < settings.number and f"student.epochs: {student.epochs}"
    yield "each snapshot teaches for at least an epoch", short, f"student.epochs of at least {settings.number}"
    follows = "the teacher changes with the epochs of the student"
    yield follows, recipe.cache is not None and "a cache", "cache: null, or use: ensemble"
    attacked = any(section and section.adversary for section in (recipe.distillation, recipe.few_labels))
    yield "adversaries follow one teacher", attacked and "an adversary", "adversary: null, or use: ensemble"
    assistants = recipe.assistants and f"{len(recipe.assistants)} assistant(s)"
    yield "assistants would be trained by it instead of the student", assistants, "assistants: [], or use: ensemble"
    by_teacher = recipe.data.curriculum is not None and recipe.data.curriculum.name != "scores"
    curriculum = by_teacher and f"data.curriculum: {recipe.data.curriculum.name}"
    yield follows, curriculum, "a curriculum of scores, or use: ensemble"
