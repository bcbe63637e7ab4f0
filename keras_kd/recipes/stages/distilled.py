"""The student trained by distillation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.evaluation.roles import Role
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.assistants import teachers_of_student
from keras_kd.recipes.stages.training import Training


@register(phase="distilled")
def plan_distilled(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The training of the student with its teacher: same start, order and views as without the teacher."""
    yield Training(
        "distilled",
        model=plan.checked.models["student"],
        checked=plan.checked,
        makes=Artifact(role=Role.DISTILLED, title="student distilled", kind="keras", file=Path("student.keras")),
        views=views(recipe),
        teachers=teachers_of_student(plan),
        distillation=recipe.distillation,
    )
