"""Joins a source for the teacher and one for the student, and checks that both have the same examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_kd import files
from keras_kd.data.examples import Examples
from keras_kd.data.sources.numbered import examples_of
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks.labels import UNLABELED


class PairedExamples(Examples):
    """The examples of two sources, row by row: x is `{"teacher": ..., "student": ...}`.

    Labels and weights are the student's; the teacher's if the student has none.
    """

    def __init__(self, teacher: Examples, student: Examples, names: np.ndarray | None):
        self._teacher, self._student = teacher, student
        self._labeled = student if student.parts > 1 or teacher.parts == 1 else teacher
        self.num_examples = student.num_examples
        self.parts = self._labeled.parts
        self.task = self._labeled.task
        self.names = names
        self.random_access = teacher.random_access and student.random_access

    def fetch(self, ids):
        return self._joined(self._teacher.fetch(ids), self._student.fetch(ids))

    def stream(self) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        if self.random_access:
            yield from super().stream()
            return
        for (ids, teacher), (others, student) in zip(self._teacher.stream(), self._student.stream(), strict=True):
            if not np.array_equal(ids, others):
                raise ConfigurationError(
                    explain(
                        "The sources of a pair have different orders on disk.",
                        received="different examples at the same place",
                        expected="the same order, or sources that fit in memory",
                    )
                )
            yield ids, self._joined(teacher, student)

    def _joined(self, teacher: tuple[Any, ...], student: tuple[Any, ...]) -> tuple[Any, ...]:
        labeled = student if self._labeled is self._student else teacher
        return ({"teacher": teacher[0], "student": student[0]}, *labeled[1:])

    def labels(self):
        return self._labeled.labels()

    @property
    def num_bytes_each(self):
        return self._teacher.num_bytes_each + self._student.num_bytes_each

    @property
    def fingerprint(self):
        return files.fingerprint(files.digest(self._teacher.fingerprint, self._student.fingerprint))


def pair(teacher: Any, student: Any, *, task: Any = None) -> PairedExamples:
    """Joins the teacher's and the student's view of the same examples to a source for a `Pipeline`.

    Each example has the inputs `{"teacher": ..., "student": ...}`, and the student's labels and weights, or the
    teacher's if the student's source has none. Rows are joined by their position, and checked: both sources have the
    same number of examples; if both have names, the same names in the same order (`folder:` sources, `class/file`
    without the suffix; `.npz` files with `names`; data sets with TFDS ids); if both have labels, the same labels where
    neither is missing. Arrays without names or labels can only be counted.

        pipeline = kd.data.Pipeline(kd.data.pair(colour.train, grey.train), augment=[kd.data.Flip()])
        distiller = kd.Distiller(teacher, student, teacher_inputs="teacher", student_inputs="student")

    Args:
        teacher, student: anything that a `Pipeline` takes: arrays `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`; a
            split, or a data source for its training split; a `tf.data.Dataset`.
        task: the task that defines the labels, if the sources do not; see `keras_kd.tasks`.

    Raises:
        ConfigurationError: an unsupported source, or sources that do not have the same examples.

    >>> len(pair(np.zeros((4, 8, 8, 3)), (np.zeros((4, 4, 4, 1)), np.arange(4))).fetch(np.arange(2))[0])
    2
    """
    teacher, student = examples_of(teacher, task), examples_of(student, task)
    if teacher.num_examples != student.num_examples:
        raise ConfigurationError(
            explain(
                "The sources of a pair have different lengths.",
                received=f"{teacher.num_examples} examples for the teacher, {student.num_examples} for the student",
                expected="the same examples in both, in the same order",
            )
        )
    if teacher.names is not None and student.names is not None:
        _check_names(teacher.names, student.names)
    if teacher.parts > 1 and student.parts > 1:
        _check_labels(teacher, student)
    return PairedExamples(teacher, student, teacher.names if student.names is None else student.names)


def _check_names(teacher: np.ndarray, student: np.ndarray) -> None:
    rows = np.flatnonzero(teacher != student)
    if len(rows):
        row, is_order = int(rows[0]), set(teacher.tolist()) == set(student.tolist())
        raise ConfigurationError(
            explain(
                f"The sources of a pair have {'different orders' if is_order else 'different examples'}.",
                received=f"{len(rows)} rows with different names, such as {str(teacher[row])!r} for the teacher and "
                f"{str(student[row])!r} for the student in row {row}",
                expected="the same names in the same order",
                fix="Sort both by name." if is_order else "Remove the examples that only one of the sources has.",
            )
        )


def _check_labels(teacher: Examples, student: Examples) -> None:
    """Raises `ConfigurationError` if an example has two labels: its halves then are of different examples."""
    one, other = np.asarray(teacher.labels()), np.asarray(student.labels())
    if one.shape != other.shape:
        raise ConfigurationError(
            explain(
                "The labels of a pair have different shapes.",
                received=f"{one.shape} for the teacher, {other.shape} for the student",
                expected="the same labels in both sources, or labels in one of them",
            )
        )
    rows = np.flatnonzero(((one != other) & ~is_missing(one) & ~is_missing(other)).reshape(len(one), -1).any(axis=1))
    if len(rows):
        row = int(rows[0])
        raise ConfigurationError(
            explain(
                "The sources of a pair have different labels for the same rows, and so different examples.",
                received=f"{len(rows)} rows, such as row {row}: {one[row]} for the teacher, {other[row]} for the "
                "student",
                expected="the same examples in the same order",
            )
        )


def is_missing(labels: np.ndarray) -> np.ndarray:
    """Where a label is missing, bool, broadcastable: the class -1; NaN, or a row of zeros in place of shares."""
    if labels.dtype.kind != "f":
        return labels == UNLABELED
    are_rows = labels.ndim > 1 and labels.shape[-1] > 1
    return np.isnan(labels) | (~labels.any(axis=-1, keepdims=True) if are_rows else False)
