"""Splits a loss that reads several layers into parts that read one, as `keras.distillation.Distiller` requires."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.keras_distiller import ShapeOnly
from keras_kd.losses.weighted import get


def for_keras(loss: Any) -> list[DistillationLoss]:
    """Converts a loss of this package to a list for the `distillation_losses` of `keras.distillation.Distiller`.

    A loss that reads several taps becomes one part per tap: every part but the last records its inputs and returns 0,
    and the last part computes the loss. Keep the parts in order and give them equal `distillation_loss_weights`. A
    loss that reads one tap is returned unchanged, as the only element of the list.

    Raises:
        ConfigurationError: if a loss that reads several taps does not name its layers.

    >>> from keras_kd.losses import FlowOfSolution
    >>> len(for_keras(FlowOfSolution(teacher=["a", "b", "c"], student=["a", "b", "c"])))
    3
    """
    loss = get(loss)
    if not loss.several_taps:
        return [loss]
    if loss.teacher is None or loss.student is None:
        raise ConfigurationError(
            explain(
                f"The loss {loss.name!r} does not name the layers that it reads.",
                received=f"teacher={loss.teacher!r}, student={loss.student!r}",
                expected="lists of layers, such as teacher=['stage_1', 'stage_2'], student=['stage_1', 'stage_2']",
            )
        )
    collected = _Collected(loss)
    return [_Part(collected, index) for index in range(collected.num_parts)]


class _Collected:
    """The inputs that the parts of one loss have received in the current step, in the order of its taps."""

    def __init__(self, loss: DistillationLoss):
        self.loss = loss
        self.num_parts = max(len(loss.teacher), len(loss.student))
        self.shapes: list[Any] = []
        self.given: list[tuple[Any, Any]] = []

    def tap(self, role: str, index: int) -> str:
        """The tap that a part reads; on the side with fewer taps, the remaining parts repeat the last tap."""
        taps = getattr(self.loss, role)
        return taps[min(index, len(taps) - 1)]

    def lists(self, pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
        """Separates pairs into teacher and student lists, each cut to the number of its taps."""
        teacher, student = (list(side) for side in zip(*pairs, strict=True))
        return teacher[: len(self.loss.teacher)], student[: len(self.loss.student)]


class _Part(DistillationLoss):
    """One pair of taps of a loss that reads several; the last part computes the loss."""

    def __init__(self, collected: _Collected, index: int):
        super().__init__(
            teacher=collected.tap("teacher", index),
            student=collected.tap("student", index),
            name=f"{collected.loss.name}_{index}",
        )
        self.collected = collected
        self.index = index
        self.is_last = index == collected.num_parts - 1
        self.loss = collected.loss if self.is_last else None  # tracked as a layer, so that its weights are trained

    def build(self, teacher_shape, student_shape):
        self.collected.shapes = [*self.collected.shapes[: self.index], (teacher_shape, student_shape)]
        if self.is_last and not self.loss.built:
            teacher, student = self.collected.lists(self.collected.shapes)
            self.loss.validate_outputs(list(map(ShapeOnly, teacher)), list(map(ShapeOnly, student)))
            self.loss.build(teacher, student)

    def __call__(self, teacher, student, **settings):
        self.collected.given = [*self.collected.given[: self.index], (teacher, student)]
        if not self.is_last:
            return ops.zeros(())
        return self.loss(*self.collected.lists(self.collected.given), **settings)

    def get_config(self):
        raise NotImplementedError("A loss split by `for_keras` cannot be saved; save the student instead.")
