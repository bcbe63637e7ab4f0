"""Compression of the distilled student, a stage for each technique, each trained with the same teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_kd import data
from keras_kd.compression.stripping import stripped
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import TrainedModel
from keras_kd.recipes.compressing import keeps_ranges, make_transform, title_of
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.methods.data_free import on_labeled_images
from keras_kd.recipes.reading.methods import DataFree
from keras_kd.recipes.reading.schema import CompressionStep, Distillation
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.assistants import teachers_of_student
from keras_kd.recipes.stages.training import Training


@register("compress", phase="compression")
def plan_compression(plan: Any, steps: tuple[CompressionStep, ...]) -> Iterator[Stage]:
    """A training for each technique, from the weights of the one before it."""
    before = plan["distilled"]
    for number, step in enumerate(steps, start=1):
        before = Compression(f"compressed_{number}", step, before, plan)
        yield before


def _distillation(settings: Any) -> Distillation:
    """Soft targets, with the settings of the recipe as far as they are those of a teacher and labeled examples."""
    if isinstance(settings, Distillation):
        return settings
    return on_labeled_images(settings) if isinstance(settings, DataFree) else Distillation()


def _teachers(plan: Any) -> Sequence[Stage]:
    """The teachers of the student; after a route, the end of it."""
    snapshots = plan.checked.recipe.teacher and plan.checked.recipe.teacher.snapshots
    return [plan["teacher"]] if snapshots and snapshots.use == "route" else teachers_of_student(plan)


class Compression(Training):
    """Trains a compressed copy of a student, with the student's teacher."""

    def __init__(self, id: str, step: CompressionStep, before: Stage, plan: Any):
        checked, student = plan.checked, plan.checked.models["student"]
        changed = {"epochs": step.epochs, "learning_rate": step.learning_rate or student.settings.learning_rate}
        changed |= {"replace_head": False, "unfreeze": None}  # done
        super().__init__(
            id,
            model=TrainedModel(student.settings.model_copy(update=changed), student.build, student.identity),
            checked=checked,
            makes=Artifact(
                role=Role.MODEL, title=title_of(step), kind="keras", file=Path(f"{id}.keras"), derived_from=before.id
            ),
            views=views(checked.recipe),
            teachers=_teachers(plan),
            distillation=_distillation(checked.recipe.distillation),
            continues=before,
            settings={"technique": step.model_dump(exclude={"epochs", "learning_rate"})},
        )
        self._step = step
        if images := plan.of(Role.SYNTHESIZED):
            self.inputs = (*self.inputs, *images)

    def split(self, context: Context, source: data.DataSource | None = None) -> data.Split:
        return super().split(context, source) if context.synthesized is None else context.synthesized

    def first_model(self, context: Context, total_steps: int) -> keras.Model:
        keras.utils.set_random_seed(context.checked.recipe.seed)  # dropout draws a seed when a model is loaded
        self._transform = make_transform(self._step, total_steps)
        return self._transform.apply(stripped(context.model(self.continues.id)), verbose=False)

    def finished_model(self, model: keras.Model) -> keras.Model:
        return model if keeps_ranges(self._step) else self._transform.strip(model)
