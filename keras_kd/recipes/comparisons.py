"""What a report of a classification compares beyond single numbers: calibration, classes, and single predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from keras_kd.evaluation.comparison import ClassCounts, Predictions, find_disagreements, reliability
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.shown_examples import with_images


def compared_file(formats: Mapping[str, str], sizes: Mapping[str, int]) -> str | None:
    """The id of the file to compare with the teacher: the int8 one, else the smallest; None without files.

    Args:
        formats: the name of the format of each file, by id.
        sizes: in bytes, by id.

    >>> compared_file({"a": "float32", "b": "int8", "c": "int4"}, {"a": 40, "b": 11, "c": 9})
    'b'
    >>> compared_file({"a": "float32", "c": "dynamic"}, {"a": 40, "c": 12})
    'c'
    """
    integer = [id for id, name in formats.items() if name == "int8"]
    return min(integer or formats, key=lambda id: sizes[id], default=None)


def reliabilities(predicted: Mapping[str, Predictions], checked: CheckedRecipe) -> dict[str, Any]:
    """The field `reliability` of a report: the bins of each model by id; none without labels."""
    labels = checked.source.test.labels()
    if not (labels >= 0).any():
        return {}
    return {"reliability": {id: reliability(one, labels)._asdict() for id, one in predicted.items()}}


def against_teacher(
    predicted: Mapping[str, Predictions], checked: CheckedRecipe, *, teacher: str, student: str, file: str
) -> dict[str, Any]:
    """The fields `classes` and `disagreements` of a report.

    Args:
        predicted: the predictions for the test split by id.
        checked: the recipe.
        teacher, student, file: the ids of the models; the file was made from the student.
    """
    source, test = checked.source, checked.source.test
    labels, classes = test.labels(), {id: one.classes for id, one in predicted.items()}
    counts = ClassCounts.of(classes, labels, source.num_classes, teacher=teacher, student=student, file=file)
    found = find_disagreements(predicted, labels, teacher=teacher, file=file)
    shown = with_images(found, test, checked.recipe.data.value_range)
    return {"classes": asdict(counts), "disagreements": shown and asdict(shown)}
