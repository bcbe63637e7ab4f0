"""Losses around another loss, which determines what is read and what is learned."""

from __future__ import annotations

from keras_kd.losses.base import DistillationLoss


class LossWrapper(DistillationLoss):
    """Base class of losses that contain another one.

    Args:
        loss: the inner loss.
        name: the name in the logs; None takes that of the inner loss.
    """

    def __init__(self, loss: DistillationLoss, *, name: str | None = None):
        self.several_taps = loss.several_taps
        super().__init__(teacher=loss.teacher, student=loss.student, name=name or loss.name, reduction=loss.reduction)
        self.loss = loss

    @property
    def projection(self):
        return self.loss.projection

    @property
    def excludes_padding(self):
        return self.loss.excludes_padding

    def build(self, teacher_shape, student_shape):
        if not self.loss.built:
            self.loss.build(teacher_shape, student_shape)

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.loss.validate_outputs(teacher_outputs, student_outputs)
