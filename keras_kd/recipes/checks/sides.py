"""Opens the data of a recipe, and checks that teacher and student see the same examples."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_kd import data, files
from keras_kd.data.pairs.joining import is_missing
from keras_kd.errors import ConfigurationError, explain
from keras_kd.recipes.checked import Sides
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.recipes.reading.sides import settings_of_student, settings_of_teacher
from keras_kd.teachers import Teacher

SPLITS = ("train", "validation", "test")


def open_sides(recipe: Recipe) -> Sides:
    """The data of a recipe, for the student and for the teacher.

    Raises:
        RecipeError: a source cannot be opened; or `data.teacher` has not the examples of `data` in their order, has
            labels or classes that contradict theirs, or is the same.
    """
    with checking("data"):
        student = data.open_source(**settings_of_student(recipe.data), seed=recipe.seed)
    if recipe.data.teacher is None:
        return Sides(student, student)
    with checking("data.teacher"):
        settings = settings_of_teacher(recipe.data) | {"task": student.task}
        teacher = data.open_source(**settings, seed=recipe.seed)
        _check_differ(teacher, student)
        _check_class_names(teacher, student)
    for name in SPLITS:
        with checking(f"data.teacher: {name} split"):
            _check_same_examples(getattr(teacher, name), getattr(student, name))
    return Sides(_labeled_as(teacher, student), student)


def check_takes_inputs(teacher: Teacher | None, sides: Sides) -> None:
    """Raises `RecipeError` if there are inputs for a teacher that has stored its outputs."""
    if sides.differ and teacher.knows_one_set:
        with checking("data.teacher"):
            raise ConfigurationError(
                explain(
                    "The teacher takes no inputs: its outputs were computed before.",
                    received=f"a {type(teacher).__name__}",
                    expected="another teacher, or data.teacher: null",
                )
            )


def _check_differ(teacher: data.DataSource, student: data.DataSource) -> None:
    """Refuses the same source if its settings change nothing, such as the value range of numbers that stay as is."""
    same = [side.name for side in (teacher, student)], [side.input_shape for side in (teacher, student)]
    scalings = [side.train.scaling for side in (teacher, student)]
    if all(one == other for one, other in (*same, scalings)):
        raise ConfigurationError(
            explain(
                "Teacher and student would see the same.",
                received=f"{teacher.name!r} twice, with settings that do not change it",
                expected="other inputs, or data.teacher: null",
                fix="value_range scales pixels that are stored as integers; floating-point numbers are not scaled.",
            )
        )


def _check_class_names(teacher: data.DataSource, student: data.DataSource) -> None:
    """Refuses other class names; the numbers of a source without names stand for any."""
    unnamed = tuple(map(str, range(max(teacher.num_classes, student.num_classes))))
    names = [side.class_names for side in (teacher, student) if side.class_names != unnamed[: side.num_classes]]
    if len(set(names)) > 1:
        one, other = (", ".join(side.class_names) for side in (teacher, student))
        raise ConfigurationError(
            explain(
                "The sources have different classes.",
                received=f"{_shortened(one)} for the teacher, {_shortened(other)} for the student",
                expected="the same classes in the same order",
            )
        )


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_same_examples(teacher: data.Split, student: data.Split) -> None:
    data.pair(teacher, student)
    given, known = teacher.labels(), student.labels()
    more = int((is_missing(known) & ~is_missing(given)).reshape(len(known), -1).any(axis=1).sum())
    if more:
        raise ConfigurationError(
            explain(
                "The source has labels that data.source lacks; both models are trained on those of data.source.",
                received=f"{more} more labeled examples",
                expected="labels in data.source",
                fix="Write the labels into the source of the student as well.",
            )
        )


def _labeled_as(teacher: data.DataSource, student: data.DataSource) -> data.DataSource:
    """The teacher's source with the labels and the classes of the student's."""
    splits = {name: getattr(teacher, name).relabeled(getattr(student, name).labels(), name) for name in SPLITS}
    labels = files.digest_of_arrays([np.asarray(split.labels()) for split in splits.values()])
    fingerprint = files.digest(teacher.fingerprint, labels)[:32]
    return dataclasses.replace(teacher, class_names=student.class_names, fingerprint=fingerprint, **splits)
