"""Checks that the student can learn from the teacher, and from the assistants if there are any."""

from __future__ import annotations

import warnings

import keras

from keras_kd import data
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.recipes.checked import Sides
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.making import make_distiller, pipeline, teacher_of, teacher_of_snapshots
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.recipes.task import RecipeTask
from keras_kd.teachers import Panel, Teacher


def check_teacher(recipe: Recipe, models: dict[str, keras.Model], sides: Sides, task: RecipeTask) -> Teacher | None:
    """The teacher in its final form (files, precision, ensemble), made before it is trained; None without a teacher.

    Raises:
        RecipeError: its parts or its outputs do not fit.
    """
    if recipe.teacher is None:
        return None
    with checking("teacher"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # shown when the training starts
        teacher = teacher_of(recipe, models.get("teacher"), sides.teacher)
        if teacher.output_shapes is not None:
            task.check_outputs(teacher.output_shapes, "teacher", teacher.activations)
        if teacher.runs_outside_step:
            examples = sides.examples(lambda source: source.train)
            batches = pipeline(recipe, examples, recipe.student, sides.student.num_classes)
            batches.with_teacher(teacher, inputs=sides.inputs.get("teacher_inputs"))
    with checking("drop"):
        if recipe.drop and recipe.guidance != "all":
            raise ConfigurationError(
                explain(
                    "a single teacher cannot be dropped.",
                    received=f"drop: {recipe.drop:g}, guidance: {recipe.guidance}",
                    expected="drop: 0, or guidance: all",
                )
            )
    if recipe.guidance == "all":
        with checking("guidance"):
            _check_guidance(recipe, teacher, models)
    return teacher


def _check_guidance(recipe: Recipe, teacher: Teacher, models: dict[str, keras.Model]) -> None:
    """Raises `ConfigurationError` if the models above the student cannot all teach it at once."""
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None and settings.losses is not None:
            raise ConfigurationError(
                explain(
                    "several teachers support soft targets only.",
                    received=f"guidance: all and {section}.losses",
                    expected="no losses, or guidance: previous",
                )
            )
    Panel([teacher, *(model for name, model in models.items() if name.startswith("assistant"))])


def check_snapshots(
    recipe: Recipe, teacher: Teacher | None, models: dict[str, keras.Model], source: data.DataSource
) -> Teacher | None:
    """The teacher that the students learn from: `teacher`, or its snapshots together, made before it is trained.

    Raises:
        RecipeError: there are no snapshots of this teacher, or they cannot teach together.
    """
    if recipe.teacher is None or recipe.teacher.snapshots is None:
        return teacher
    with checking("teacher.snapshots"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # shown when the training starts
        if "teacher" not in models:
            raise ConfigurationError(
                explain(
                    "This teacher is not trained here.",
                    received=f"teacher.model: {recipe.teacher.model}",
                    expected="a Keras model, or snapshots: null",
                )
            )
        if recipe.teacher.snapshots.use == "route":
            return teacher
        return teacher_of_snapshots(recipe, [models["teacher"]] * recipe.teacher.snapshots.number, source)


def check_losses(recipe: Recipe, models: dict[str, keras.Model], teacher: Teacher | None, total_steps: int) -> None:
    """Makes each distiller once, to check the losses, the layers they name, and the shapes they compare.

    Args:
        recipe: the recipe.
        models: of the run, built.
        teacher: from `check_snapshots`.
        total_steps: of the student's training.
    """
    above = list(models)[-2] if len(models) > 1 else None
    if above is None or (above == "teacher" and recipe.teacher.ensemble_with):
        return
    is_first = above == "teacher" and recipe.teacher.snapshots is not None
    above = teacher if is_first else models[above]
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None and settings.losses is not None and settings.adversary is None:
            with checking(f"{section}.losses"), warnings.catch_warnings():
                warnings.simplefilter("ignore", Notice)  # shown when the training starts
                make_distiller(above, models["student"], settings, total_steps)
