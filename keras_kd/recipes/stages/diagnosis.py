"""The diagnosis of the teacher: whether it is suitable for distillation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import data
from keras_kd.diagnosis import Diagnosis, diagnose
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.training_teacher import teacher_settings
from keras_kd.teachers import Teacher

MAX_DIAGNOSED = 2000


@register(phase="diagnosis")
def plan_diagnosis(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The diagnosis of the recipe's teacher, if it has one, whose outputs are mutually exclusive classes."""
    if recipe.teacher is not None and plan.checked.task.kind.has_classes:
        yield TeacherDiagnosis(plan["teacher"], plan.checked)


class TeacherDiagnosis(Stage):
    """Diagnoses the teacher and writes the result to `teacher_diagnosis.json`."""

    def __init__(self, teacher: Stage, checked: CheckedRecipe):
        settings = {
            "seed": checked.recipe.seed,
            f"data{FINGERPRINT}": checked.sides.teacher.fingerprint,
            **teacher_settings([teacher], checked),
        }
        file = Path("teacher_diagnosis.json")
        makes = Artifact(role=Role.DIAGNOSIS, title="diagnosis of the teacher", kind="text", file=file)
        super().__init__("diagnosis", inputs=[teacher], settings=settings, makes=makes)

    def run(self, context: Context) -> Artifact:
        found = diagnose_teacher(context.teacher, context.checked)
        notes = [f"teacher: {warning}" for warning in found.warnings]
        return context.save_text(self.makes, json.dumps(found.as_dict(), indent=1) + "\n", notes=notes)


def diagnose_teacher(teacher: Teacher, checked: CheckedRecipe) -> Diagnosis:
    """Diagnoses a teacher on up to 2,000 examples each of the training and of the validation split, as it sees them.

    A teacher that has outputs for the training examples only, by index, is diagnosed on the first of these; one that
    teaches without data, on the validation split alone.
    """
    source = checked.sides.teacher
    if teacher.knows_one_set:
        first = np.arange(min(source.train.num_examples, MAX_DIAGNOSED))
        return diagnose(teacher, source.train.subset(first, "train").arrays(), progress=False)
    rng = np.random.default_rng(checked.recipe.seed)
    if checked.recipe.distillation.method == "data_free":
        return diagnose(teacher, validation=_sample(source.validation, "validation", rng), progress=False)
    train, validation = (_sample(getattr(source, name), name, rng) for name in ("train", "validation"))
    return diagnose(teacher, train, validation=validation, progress=False)


def _sample(split: data.Split, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = min(split.num_examples, MAX_DIAGNOSED)
    return split.subset(rng.choice(split.num_examples, size, replace=False), name).arrays()
