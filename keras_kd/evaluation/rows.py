"""The models of a report: one row each, found by id, role and origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from keras_kd.errors import check_number
from keras_kd.evaluation.roles import Role


@dataclass(frozen=True)
class ModelRow:
    """One model of the report.

    Attributes:
        id: identifies the model; unique among the rows.
        title: the displayed name, such as `"distilled, int8 TFLite"`; nothing depends on it.
        role: the purpose of the model; the headline and the comparisons depend on it.
        parameters: the number of weights.
        values: the measures of the task on the whole test split by name, such as `{"accuracy": 0.97}`; None for a
            measure that is undefined on the test examples.
        num_bytes: the size of the TFLite file.
        gzip_bytes: the size of that file after gzip.
        agreement: the share of the test split, 0 to 1, on which its prediction is that of the model it was made from.
        latency_p50_ms: the median time for one example.
        latency_p95_ms: the 95th percentile of the time for one example.
        runtime: the runtime of the timing, such as `"LiteRT, 1 thread"`.
        note: a remark for the reader.
        derived_from: the id of the model that it was made from; None for a model trained from its own start.
        labels: the number of labeled training examples; None for all of them.
        format: the format of an exported file, such as `"int8"`.
        replicates: the headline measure without each of some groups of test examples, from which its interval follows;
            see `keras_kd.evaluation.scale.replicates`.
    """

    id: str
    title: str
    role: Role
    parameters: int
    values: dict[str, float | None]
    num_bytes: int | None = None
    gzip_bytes: int | None = None
    agreement: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    runtime: str | None = None
    note: str = ""
    derived_from: str | None = None
    labels: int | None = None
    format: str | None = None
    replicates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", Role(self.role))
        for name in ("agreement", "parameters", "num_bytes", "gzip_bytes", "latency_p50_ms", "latency_p95_ms"):
            value = getattr(self, name)
            if value is not None or name == "parameters":
                check_number(name, value, at_least=0, at_most=1 if name == "agreement" else math.inf)
        for name, value in self.values.items():
            if value is not None:
                check_number(name, value)

    def __getitem__(self, name: str) -> float | None:
        """A measure of the task by name."""
        return self.values[name]


def with_id(rows: Sequence[ModelRow], id: str | None) -> ModelRow | None:
    return next((row for row in rows if row.id == id), None)


def with_role(rows: Sequence[ModelRow], role: Role, labels: int | None = None) -> ModelRow | None:
    """The first row with this role and number of labels."""
    return next((row for row in rows if row.role is role and row.labels == labels), None)


def title_of(rows: Sequence[ModelRow], id: str) -> str:
    """The title of the row with this id; without one, the id."""
    row = with_id(rows, id)
    return id if row is None else row.title


def shipped_student(rows: Sequence[ModelRow]) -> ModelRow | None:
    """The student for the phone: the smallest file made from the distilled student, else that student."""
    student = with_role(rows, Role.DISTILLED)
    files = [row for row in rows if row.role is Role.EXPORTED and row.num_bytes and _root(rows, row) is student]
    return min(files, key=lambda row: row.num_bytes, default=student)


def _root(rows: Sequence[ModelRow], row: ModelRow) -> ModelRow:
    """The model at the start of the row's chain of `derived_from`."""
    source = with_id(rows, row.derived_from)
    return row if source is None else _root(rows, source)
