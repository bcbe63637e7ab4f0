"""A whole run: data, teacher, student alone and distilled, files for the phone, measurements, report.

Each stage is skipped if the run folder holds its artifact for the same settings and inputs, so an interrupted run
resumes and a finished one only reports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd import evaluation, export, files
from keras_kd.chain.progress import RunProgress
from keras_kd.diagnosis import Diagnosis
from keras_kd.errors import RecipeError, explain
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.engine import loop, stamps
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.plan import Plan, plan
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.recipes.stages.diagnosis import diagnose_teacher as diagnosed
from keras_kd.recipes.stages.teacher import ExternalTeacher, FoundTeacher


def run(recipe: Recipe, console: Any = None, *, overwrite: bool = False) -> Report:
    """Runs a recipe to the end, resuming an interrupted run.

    Args:
        recipe: from `load`.
        console: where progress is shown; None means standard output.
        overwrite: whether the results of another recipe (other data, other models) in the run folder may be replaced.

    Returns:
        The report, also written to the run folder as `report.json` and `report.html`.

    Raises:
        RecipeError: the recipe does not fit (raised before anything heavy starts or is written); or another process is
            using the run folder; or it contains the results of another recipe.
        TrainingError: a training diverged.
        ExportError: a model could not be converted.
        StorageError: the disk is full or not writable.
    """
    planned = _planned(recipe)
    with _working(planned, console, overwrite=overwrite) as context:
        if found := planned.checked.task.found():
            context.progress.say(found)
        loop.run(planned.stages, context)
        return Report.from_dict(json.loads(context.file("report").read_text("utf-8")))


def build_cache(
    recipe: Recipe, console: Any = None, *, shard: int = 0, num_shards: int = 1, overwrite: bool = False
) -> Path:
    """Builds the cache of a recipe's teacher, or resumes building it; trains the teacher first if needed.

    Args:
        recipe: from `load`, with a `cache` section.
        console: where progress is shown; None means standard output.
        shard, num_shards: this process builds every `num_shards`-th shard, starting with number `shard`. Several
            processes may run at once when the teacher is trained.
        overwrite: see `run`.

    Returns:
        The folder of the cache.

    Raises:
        RecipeError: see `run`; also if the recipe has no `cache` section.
        TeacherError: the folder contains another cache.
        TrainingError, StorageError: see `run`.
    """
    if recipe.cache is None:
        raise RecipeError(
            explain("cache: the recipe has no such section.", received="null", expected="a section such as {views: 8}")
        )
    planned = _planned(recipe)
    is_shared = num_shards > 1 and _teacher_is_ready(planned)
    with _working(planned, console, overwrite=overwrite, shared=is_shared) as context:
        context = dataclasses.replace(context, shard=shard, num_shards=num_shards)
        cache = planned.of(Role.CACHE)[0]  # of the teacher, or of its snapshots
        loop.run(planned.stages, context, only=_with_inputs(planned["teacher"], cache))
        return context.file(cache.id).parent


def diagnose_teacher(recipe: Recipe, console: Any = None, *, overwrite: bool = False) -> Diagnosis:
    """Diagnoses a recipe's teacher; trains it first if needed.

    Returns:
        The diagnosis, also written to the run folder, with a picture of the calibration.

    Raises:
        RecipeError, TrainingError, StorageError: see `run`.
    """
    if recipe.teacher is None:
        raise RecipeError(explain("teacher: the recipe has none.", received="null", expected="a section"))
    planned = _planned(recipe)
    task = planned.checked.task.kind
    if not task.has_classes:
        raise RecipeError(
            explain(
                "Only classifiers can be diagnosed.",
                received=f"the task {task.name!r}",
                expected="exclusive classes, per example or per position",
            )
        )
    with _working(planned, console, overwrite=overwrite) as context:
        loop.run(planned.stages, context, only=_with_inputs(planned["diagnosis"]))
        found = diagnosed(context.teacher, context.checked)
        files.write(context.folder.path / "teacher_reliability.svg", evaluation.reliability(found))
    return found


def _with_inputs(*stages: Stage) -> list[Stage]:
    """Some stages, and all that they read."""
    return [*stages, *(known for stage in stages for known in _with_inputs(*stage.inputs))]


def _planned(recipe: Recipe) -> Plan:
    checked = check_recipe(recipe)
    return plan(checked, RunFolder(recipe.folder))


@contextlib.contextmanager
def _working(planned: Plan, console: Any, *, overwrite: bool, shared: bool = False) -> Iterator[Context]:
    """The context of a run, with the folder locked against other runs and other recipes."""
    recipe, progress = planned.checked.recipe, RunProgress(console)
    teacher = recipe.teacher and recipe.teacher.model
    identity = {"data": recipe.data.source, "teacher": teacher, "student": recipe.student.model}
    with (
        planned.folder.held(identity, overwrite=overwrite, shared=shared),
        progress,
        export.Converter() as converter,
    ):
        yield Context(planned.checked, planned.folder, progress, converter)


def _teacher_is_ready(planned: Plan) -> bool:
    """Whether the teacher is finished, so that only the cache is written."""
    teacher = planned["teacher"]
    if isinstance(teacher, (ExternalTeacher, FoundTeacher)):
        return True
    read = {}
    for stage in (*teacher.inputs, teacher):
        artifact = stamps.finished(planned.folder, stage, {known.id: read[known.id] for known in stage.inputs})
        if artifact is None:
            return False
        read[stage.id] = artifact.digest
    return True
