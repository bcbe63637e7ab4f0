"""The assistants between teacher and student, each distilled from the models before it by soft targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.cache import through_cache
from keras_kd.recipes.stages.training import Training


@register(phase="assistants")
def plan_assistants(plan: Any, recipe: Any) -> Iterator[Stage]:
    """A training for each assistant, and the caches of their teachers; the cache for the student comes last."""
    if recipe.distillation.method != "distiller":
        return
    soft = recipe.distillation.model_copy(update={"losses": None})  # losses name layers of teacher and student
    above = _first(plan)
    for id, model in plan.checked.assistants.items():
        teachers, caches = teachers_of_next(above, plan.checked)
        yield from caches
        title, file = id.replace("_", " "), Path(".state", f"{id}.keras")
        makes = Artifact(role=Role.ASSISTANT, title=title, kind="keras", file=file)
        assistant = Training(
            id,
            model=model,
            checked=plan.checked,
            makes=makes,
            views=views(recipe),
            teachers=teachers,
            distillation=soft,
        )
        yield assistant
        above.append(assistant)
    yield from teachers_of_next(above, plan.checked)[1]


def teachers_of_next(above: Sequence[Stage], checked: CheckedRecipe) -> tuple[Sequence[Stage], list[Stage]]:
    """The teachers of the next model, the last of these or all of them; see `through_cache`."""
    teachers = above if checked.recipe.guidance == "all" else above[-1:]
    return through_cache(tuple(teachers), checked)


def teachers_of_student(plan: Any) -> Sequence[Stage]:
    """The stages that the student learns from; without a teacher, its compressed copies learn from the student."""
    if not plan.checked.recipe.has_own_teacher:
        return [plan["distilled"]]
    if caches := plan.of(Role.CACHE):
        return caches[-1:]
    return teachers_of_next([*_first(plan), *plan.of(Role.ASSISTANT)], plan.checked)[0]


def _first(plan: Any) -> list[Stage]:
    """What the first assistant, or the student without assistants, learns from: the teacher, or its snapshots."""
    return plan.of(Role.SNAPSHOTS) or plan.of(Role.TEACHER)
