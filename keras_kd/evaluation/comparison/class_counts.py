"""The accuracy of each class: the teacher's, the student's and that of a file made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_kd.errors import ConfigurationError, explain


class ClassChange(NamedTuple):
    """The accuracy of one class, 0 to 1, of three models; `index` is its number, `count` its test examples."""

    index: int
    count: int
    teacher: float
    student: float
    file: float

    @property
    def student_change(self) -> float:
        return self.student - self.teacher

    @property
    def file_change(self) -> float:
        return self.file - self.teacher


@dataclass(frozen=True)
class ClassCounts:
    """How many test examples of each class three models predict correctly.

    Attributes:
        teacher, student, file: the ids of their rows in a report.
        counts: the number of test examples per class.
        right: the number of them predicted correctly, per class, by row id.

    Raises:
        ConfigurationError: a model without numbers, or numbers that do not fit the counts.
    """

    teacher: str
    student: str
    file: str
    counts: list[int]
    right: dict[str, list[int]]

    def __post_init__(self) -> None:
        for id in (self.teacher, self.student, self.file):
            right = self.right.get(id)
            if right is None or not _fits(right, self.counts):
                received = "no numbers" if right is None else f"{right} of {self.counts}"
                expected = "for each class, a number from 0 to its number of examples"
                raise ConfigurationError(explain(f"Invalid counts of {id!r}.", received=received, expected=expected))

    @classmethod
    def of(
        cls,
        classes: Mapping[str, np.ndarray],
        labels: np.ndarray,
        num_classes: int,
        *,
        teacher: str,
        student: str,
        file: str,
    ) -> ClassCounts:
        """Counts the right predictions.

        Args:
            classes: the predicted classes `[n]` by row id.
            labels: `[n]`, the true classes, -1 for a missing one, which is left out.
            num_classes: the number of classes.
            teacher, student, file: the row ids.
        """

        def count(chosen: np.ndarray) -> list[int]:
            return np.bincount(labels[chosen], minlength=num_classes).tolist()

        known = labels >= 0
        right = {id: count(known & (classes[id] == labels)) for id in (teacher, student, file)}
        return cls(teacher, student, file, count(known), right)

    def changes(self) -> list[ClassChange]:
        """The accuracy of each class that has test examples: the class in which the file loses most comes first.

        Classes in which it loses as much are in the order of the student's loss, then of their number of examples.
        """
        numbers = zip(self.counts, *(self.right[id] for id in (self.teacher, self.student, self.file)), strict=True)
        found = [
            ClassChange(index, count, *(right / count for right in rights))
            for index, (count, *rights) in enumerate(numbers)
            if count
        ]
        return sorted(found, key=lambda one: (one.file_change, one.student_change, -one.count, one.index))


def _fits(right: Any, counts: Any) -> bool:
    if len(right) != len(counts) or not all(isinstance(number, int) for number in (*right, *counts)):
        return False
    return all(0 <= one <= count for one, count in zip(right, counts, strict=True))
