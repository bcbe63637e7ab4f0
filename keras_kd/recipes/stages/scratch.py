"""The student trained without a teacher, as the baseline of the distilled one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.evaluation.roles import Role
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.training import Training


@register(phase="scratch")
def plan_scratch(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The training of the student alone; none for a given student or for distillation without data."""
    if recipe.student.epochs is None or recipe.distillation.method == "data_free":
        return
    file = Path(".state", "scratch.keras")
    makes = Artifact(role=Role.SCRATCH, title="student from scratch", kind="keras", file=file)
    model = plan.checked.models["student"]
    attacked_as = recipe.distillation if recipe.distillation.method == "distiller" else None
    yield Training(
        "scratch", model=model, checked=plan.checked, makes=makes, views=views(recipe), attacked_as=attacked_as
    )
