"""The student, trained by distillation or given as a trained file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import TrainedModel
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.methods.data_free import plan_data_free
from keras_kd.recipes.methods.exits import keeps_exits, plan_exits
from keras_kd.recipes.methods.mutual import MutualTraining
from keras_kd.recipes.methods.self_taught import SelfTaughtTraining
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.assistants import teachers_of_student
from keras_kd.recipes.stages.training import Training


@register(phase="distilled")
def plan_distilled(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The training of the student by the method of the recipe: same start, order and views as without a teacher."""
    if recipe.student.epochs is None:
        yield GivenStudent(recipe.student.model, plan.checked.models["student"])
        return
    makes = _makes("student distilled")
    if recipe.distillation.method != "distiller":
        yield from _PLANS[recipe.distillation.method](plan, makes)
        return
    yield Training(
        "distilled",
        model=plan.checked.models["student"],
        checked=plan.checked,
        makes=makes,
        views=views(recipe),
        teachers=teachers_of_student(plan),
        distillation=recipe.distillation,
        curriculum=recipe.data.curriculum,
    )


_PLANS = {
    "self": lambda plan, makes: plan_exits(plan, makes) if keeps_exits(plan) else [SelfTaughtTraining(plan, makes)],
    "mutual": lambda plan, makes: [MutualTraining(plan, makes)],
    "data_free": plan_data_free,
}


def _makes(title: str) -> Artifact:
    return Artifact(role=Role.DISTILLED, title=title, kind="keras", file=Path("student.keras"))


class GivenStudent(Stage):
    """A trained `.keras` file that the recipe names, copied into the run folder to be compressed."""

    def __init__(self, name: str, model: TrainedModel):
        settings = {"model": name, f"model{FINGERPRINT}": model.identity}
        super().__init__("distilled", settings=settings, makes=_makes("student as given"))
        self._name, self._build = name, model.build

    def run(self, context: Context) -> Artifact:
        context.progress.say(self.skipped(None))
        return context.save_model(self.makes, self._build())

    def skipped(self, file: Path | None) -> str:
        return f"student: loaded {self._name}."

    def replacing(self, file: Path, reason: str) -> str:
        return f"{file.name}: {reason}, replaced by {self._name}."
