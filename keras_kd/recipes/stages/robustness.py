"""The accuracy of the teacher and the students under attack."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import evaluation
from keras_kd.evaluation.report import plain
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.training_teacher import teacher_settings
from keras_kd.teachers import FrozenTeacher

ID = "robustness"


@register("measure", phase="measure")
def plan_robustness(plan: Any, measure: Any) -> Iterator[Stage]:
    """The robustness of all Keras models, if the recipe asks for it."""
    if measure.robustness is not None:
        yield RobustnessMeasured(plan.of(*MODELS), plan.checked)


class RobustnessMeasured(Stage):
    """Attacks its inputs on the test split, each by its own gradients."""

    def __init__(self, measured: Sequence[Stage], checked: CheckedRecipe):
        recipe = checked.recipe
        settings = {
            "seed": recipe.seed,
            f"data{FINGERPRINT}": checked.source.fingerprint,
            "robustness": recipe.measure.robustness.model_dump(),
            **teacher_settings(measured, checked),
        }
        file = Path(".state", "attacks.json")
        makes = Artifact(role=Role.MEASUREMENTS, title="robustness", kind="text", file=file)
        super().__init__(ID, inputs=measured, settings=settings, makes=makes)

    def skipped(self, file: Path | None) -> str:
        return "robustness: none of the models has changed."

    def run(self, context: Context) -> Artifact:
        (x, y), measured, notes = self._examples(context), {}, []
        with context.progress.stage(self.makes.title, total=len(self.inputs)) as progress:
            for stage in self.inputs:
                if (model := _model(stage, context)) is None:
                    notes.append(f"robustness: {stage.makes.title} has no gradients to attack, and is left out.")
                else:
                    measured[stage.id] = dataclasses.asdict(self._measure(stage.id, model, x, y, context))
                progress.advance(stage.makes.title)
        return context.save_text(self.makes, json.dumps(plain(measured), indent=1), notes=notes)

    def _examples(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """The labeled test examples, or some of them."""
        checked = context.checked
        test, num_examples = checked.source.test, checked.recipe.measure.robustness.examples
        labeled = np.flatnonzero(test.labels() >= 0)
        if num_examples is not None and num_examples < len(labeled):
            generator = np.random.default_rng(checked.recipe.seed)
            labeled = np.sort(generator.choice(labeled, num_examples, replace=False))
        return test.subset(labeled, "the labeled ones").arrays()

    def _measure(
        self, id: str, model: keras.Model, x: np.ndarray, y: np.ndarray, context: Context
    ) -> evaluation.Robustness:
        recipe = context.checked.recipe
        settings = recipe.measure.robustness
        found = evaluation.robustness(
            model,
            x,
            y,
            settings.epsilon,
            restarts=settings.restarts,
            norm=settings.norm,
            value_range=recipe.data.value_range,
            seed=recipe.seed % 2**30,
            show_progress=False,
        )
        return dataclasses.replace(found, name=id)


def _model(stage: Stage, context: Context) -> keras.Model | None:
    """The Keras model made by a stage; None for a teacher that is not a single one."""
    if stage.makes.role is not Role.TEACHER:
        return context.model(stage.id)
    return context.teacher.model if isinstance(context.teacher, FrozenTeacher) else None
