"""A loss on several taps for `keras.distillation.Distiller`, which gives each of its losses one layer of each model."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.keras_distiller import ShapeOnly
from keras_kd.losses.weighted import get


def for_keras(loss: Any) -> list[DistillationLoss]:
    """What to pass to `keras.distillation.Distiller` as `distillation_losses` for any loss of this package.

    A loss that reads several taps becomes one loss per tap: all but the last hand on what they were given and are 0,
    the last one is the loss. Their order, and equal `distillation_loss_weights`, have to be kept. A loss on one tap is
    returned in a list as it is.

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
                f"The loss {loss.name!r} does not say which layers it reads.",
                received=f"teacher={loss.teacher!r}, student={loss.student!r}",
                expected="lists of layers: teacher=['stage_1', 'stage_2'], student=['stage_1', 'stage_2']",
            )
        )
    collected = _Collected(loss)
    return [_Part(collected, index) for index in range(collected.num_parts)]


class _Collected:
    """What the parts of one loss were given in this step, in the order of its taps."""

    def __init__(self, loss: DistillationLoss):
        self.loss = loss
        self.num_parts = max(len(loss.teacher), len(loss.student))
        self.shapes: list[Any] = []
        self.given: list[tuple[Any, Any]] = []

    def tap(self, role: str, index: int) -> str:
        """The tap that a part reads; where one side has fewer, its last parts read the last tap again."""
        taps = getattr(self.loss, role)
        return taps[min(index, len(taps) - 1)]

    def lists(self, pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
        """Teacher's and student's, each as long as its taps."""
        teacher, student = (list(side) for side in zip(*pairs, strict=True))
        return teacher[: len(self.loss.teacher)], student[: len(self.loss.student)]


class _Part(DistillationLoss):
    """One pair of taps of a loss on several; the last part computes it."""

    def __init__(self, collected: _Collected, index: int):
        super().__init__(
            teacher=collected.tap("teacher", index),
            student=collected.tap("student", index),
            name=f"{collected.loss.name}_{index}",
        )
        self.collected = collected
        self.index = index
        self.is_last = index == collected.num_parts - 1
        self.loss = collected.loss if self.is_last else None  # a layer, so that what it learns is trained

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
        raise NotImplementedError("A loss that was taken apart for Keras' Distiller cannot be saved; save the student.")
