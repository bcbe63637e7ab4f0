"""The examples for which a file and the teacher predict different classes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.evaluation.comparison.predicted import Predictions

MAX_SHOWN = 24


@dataclass(frozen=True)
class Disagreement:
    """One example.

    Attributes:
        index: its row in the test split.
        label: its true class, -1 if unknown.
        teacher, file: the predicted classes.
        teacher_confidence, file_confidence: the probabilities of these classes, 0 to 1.
        image: the example as a PNG in base64, empty if it is not an image.

    Raises:
        ConfigurationError: the same class twice, a negative number (except -1 for the label), or no probability.
    """

    index: int
    label: int
    teacher: int
    file: int
    teacher_confidence: float
    file_confidence: float
    image: str = ""

    def __post_init__(self) -> None:
        for name, least in {"index": 0, "label": -1, "teacher": 0, "file": 0}.items():
            check_integer(name, getattr(self, name), at_least=least)
        for name in ("teacher_confidence", "file_confidence"):
            check_number(name, getattr(self, name), at_least=0, at_most=1)
        if self.teacher == self.file:
            problem, expected = f"The example {self.index} is not a disagreement.", "two different classes"
            raise ConfigurationError(explain(problem, received=f"class {self.file} twice", expected=expected))

    @property
    def teacher_is_right(self) -> bool:
        return self.teacher == self.label

    @property
    def file_is_right(self) -> bool:
        return self.file == self.label


@dataclass(frozen=True)
class Disagreements:
    """The disagreements of a file and the teacher on the test split.

    Attributes:
        teacher, file: the ids of their rows in a report.
        count: the number of examples for which they predict different classes.
        teacher_right, file_right: the number of these for which the teacher or the file is right.
        examples: some of them, the most confident first.
        shown_range: the values drawn as black and white, in the range of the model's inputs.

    Raises:
        ConfigurationError: more examples, or more right predictions, than disagreements.
    """

    teacher: str
    file: str
    count: int
    teacher_right: int
    file_right: int
    examples: list[Disagreement]
    shown_range: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if max(len(self.examples), self.teacher_right + self.file_right) > self.count:
            received = f"{len(self.examples)} examples; right: {self.teacher_right} and {self.file_right}"
            expected = f"at most {self.count}, the number of disagreements"
            raise ConfigurationError(explain("Invalid disagreements.", received=received, expected=expected))
        if len(self.shown_range) not in (0, 2):
            problem, expected = "Invalid 'shown_range'.", "the values of black and white, or nothing"
            raise ConfigurationError(explain(problem, received=self.shown_range, expected=expected))


def find_disagreements(
    predicted: dict[str, Predictions], labels: np.ndarray, *, teacher: str, file: str, limit: int = MAX_SHOWN
) -> Disagreements:
    """The disagreements of two models, the most confident first, without images.

    A disagreement is as confident as the less confident of the two models. Equal ones are in the order of the examples.

    Args:
        predicted: the predictions for the same examples, by row id.
        labels: `[n]`, the true classes, -1 for a missing one.
        teacher, file: the row ids.
        limit: the maximum number of examples.

    Raises:
        ConfigurationError: a negative limit.
    """
    limit = check_integer("limit", limit, at_least=0)
    one, other = predicted[teacher], predicted[file]
    rows = np.flatnonzero(one.classes != other.classes)
    sureness = np.minimum(one.confidences, other.confidences)[rows]
    chosen = rows[np.argsort(-sureness, kind="stable")][:limit]
    return Disagreements(
        teacher,
        file,
        count=len(rows),
        teacher_right=int((one.classes == labels)[rows].sum()),
        file_right=int((other.classes == labels)[rows].sum()),
        examples=[_example(int(row), labels, one, other) for row in chosen],
    )


def _example(row: int, labels: np.ndarray, teacher: Predictions, file: Predictions) -> Disagreement:
    classes = [int(values[row]) for values in (labels, teacher.classes, file.classes)]
    return Disagreement(row, *classes, *(float(model.confidences[row]) for model in (teacher, file)))
