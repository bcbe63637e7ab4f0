"""The teacher of a run: trained here, given as a file, found in the run folder, or from elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.errors import RecipeError, explain
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_file
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT, digest
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.methods.snapshots import SnapshotsTraining, TeacherOfSnapshots
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.training import Training
from keras_kd.teachers import FrozenTeacher

FILE = Path("teacher.keras")
_MAKES = Artifact(role=Role.TEACHER, title="teacher", kind="keras", file=FILE)


@register(phase="teacher")
def plan_teacher(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The stage of the recipe's teacher, if it has one; a method that does without only measures it.

    Raises:
        RecipeError: a `teacher.keras` that the user put into the run folder does not fit.
    """
    if recipe.teacher is None:
        return
    checked, file = plan.checked, plan.folder.path / FILE
    if "teacher" not in checked.models:
        yield ExternalTeacher(recipe.teacher.model)
    elif recipe.teacher.is_trained_file:
        yield GivenTeacher(recipe.teacher.model, checked.models["teacher"].identity)
    elif file.exists() and not plan.folder.wrote("teacher", file):
        check_file(file, "teacher", checked)
        _check_trained_here(file, recipe)
        yield FoundTeacher(file)
    elif recipe.teacher.snapshots is not None:
        training = SnapshotsTraining(checked)
        yield training
        yield TeacherOfSnapshots(training, _MAKES)
    else:
        model = checked.models["teacher"]
        yield Training("teacher", model=model, checked=checked, makes=_MAKES, views=None)


def _check_trained_here(file: Path, recipe: Any) -> None:
    """Raises `RecipeError` for a teacher from elsewhere, of which there are no snapshots."""
    if recipe.teacher.snapshots is not None:
        raise RecipeError(
            explain(
                "teacher.snapshots: this teacher was not trained here.",
                received=f"{file}, which no run wrote",
                expected="no such file, or snapshots: null",
            )
        )


class GivenTeacher(Stage):
    """A trained `.keras` file that the recipe names, copied into the run folder."""

    def __init__(self, name: str, identity: str):
        super().__init__("teacher", settings={"model": name, f"model{FINGERPRINT}": identity}, makes=_MAKES)
        self._name = name

    def run(self, context: Context) -> Artifact:
        context.progress.say(self.skipped(None))
        return context.save_model(self.makes, FrozenTeacher(self._name).model)

    def skipped(self, file: Path | None) -> str:
        return f"teacher: loaded {self._name}."

    def replacing(self, file: Path, reason: str) -> str:
        return f"{file.name}: {reason}, replaced by {self._name}."


class FoundTeacher(Stage):
    """A `teacher.keras` that the user put into the run folder, used unchanged and never treated as the run's own."""

    def __init__(self, file: Path):
        super().__init__("teacher", settings={f"file{FINGERPRINT}": digest(file)}, makes=_MAKES)

    def run(self, context: Context) -> Artifact:
        context.progress.say(f"teacher: loaded {context.folder.path / FILE}, which was in the run folder.")
        return dataclasses.replace(self.makes, is_complete=False)


class ExternalTeacher(Stage):
    """A teacher that is not a `.keras` file: a `.tflite` file, a SavedModel, stored outputs, or made by a function."""

    def __init__(self, name: str):
        makes = Artifact(role=Role.TEACHER, title="teacher", kind="external")
        super().__init__("teacher", settings={"model": name}, makes=makes)
        self._name = name

    def run(self, context: Context) -> Artifact:
        context.progress.say(f"teacher: loaded {self._name}.")
        return dataclasses.replace(self.makes, is_complete=False)
