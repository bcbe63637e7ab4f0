"""Base class of losses on the features before ReLUs: pairs of layers, each behind a learned connector."""

from __future__ import annotations

from typing import Any

from keras import initializers

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import Projector, plan_projection
from keras_kd.features.projectors import describe_projectors
from keras_kd.losses.base import DistillationLoss


class ConnectedPairs(DistillationLoss):
    """Base class of losses that sum over pairs of layers of equal shape; subclasses implement `compare_pair`.

    Pair `i` of `n` (from 0) has weight `1 / 2^(n - 1 - i)`: 1 for the last, 1/2 for the one before.

    Args:
        projector: maps the student's features to the teacher's shape. `"conv"` always learns a 1x1 convolution with
            batch normalization, `"auto"` only if the channels differ, None never. If the sizes differ, the student's
            map is resized.
        options: `teacher`, `student` (a layer or a list of layers), `name`, `reduction`, see `DistillationLoss`.
    """

    several_taps = True
    excludes_padding = True

    def __init__(self, *, projector: str | None, **options: Any):
        super().__init__(**options)
        self.projector = check_choice("projector", projector, ("conv", "auto", None))
        self._connectors: list[Projector] = []

    def build(self, teacher_shape, student_shape):
        teacher_shapes, student_shapes = _as_list(teacher_shape), _as_list(student_shape)
        self.check_shapes(teacher_shapes, student_shapes)
        # the authors' initialization, normal with variance 2 / outputs
        start = initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
        connectors = [Projector(shape, self.projector, kernel_initializer=start.clone()) for shape in teacher_shapes]
        for connector, shape in zip(connectors, student_shapes, strict=True):
            connector.build(tuple(shape))
        self._connectors = connectors

    @property
    def projection(self):
        return describe_projectors(self._connectors)

    def call(self, teacher, student, context):
        included = [context.included(features) for features in student]
        student = [
            connect(features, included=entries, training=context.training)
            for connect, features, entries in zip(self._connectors, student, included, strict=True)
        ]
        present = [connect.arranged(entries) for connect, entries in zip(self._connectors, included, strict=True)]
        losses = map(self.compare_pair, range(len(student)), teacher, student, present)
        return sum(loss / 2 ** (len(student) - 1 - i) for i, loss in enumerate(losses))

    def compare_pair(self, index: int, teacher_map: Any, student_map: Any, present: Any) -> Any:
        """The loss of pair `index`, `[batch]`, over the entries that are `present`; None includes all."""
        raise NotImplementedError

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.check_shapes(*([x.shape for x in _as_list(side)] for side in (teacher_outputs, student_outputs)))

    def check_shapes(self, teacher_shapes: list, student_shapes: list) -> None:
        """Raises `ConfigurationError` if these layers cannot be paired."""
        if len(teacher_shapes) != len(student_shapes):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares pairs of layers.",
                    received=f"{len(teacher_shapes)} of the teacher, {len(student_shapes)} of the student",
                    expected="the same number of layers of both",
                )
            )
        for teacher, student in zip(teacher_shapes, student_shapes, strict=True):
            plan_projection(teacher, student, self.projector)

    def get_config(self):
        return {**super().get_config(), "projector": self.projector}


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]
