"""Regression on logits (Ba & Caruana, 2014)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.logits import check_same_classes
from keras_kd.losses.tensors import wide


def logit_regression(teacher_logits: Any, student_logits: Any, centered: bool = True) -> Any:
    """`mean over classes of (student - teacher)^2`, of logits without their mean over the classes.

    A softmax does not see a number that is added to all logits of a row, and `centered` leaves it out; what remains is
    twice the limit of `T^2 * KL` at a high temperature. The paper's equation is half the sum over the classes of logits
    as they are; the mean keeps one scale for any number of classes.

    Source: Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014; the limit is from Hinton, Vinyals &
    Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.1.

    Args:
        teacher_logits, student_logits: `[..., classes]`, before the softmax or the sigmoid.
        centered: whether to subtract the mean over the classes; False for sigmoids, where the number is seen.

    Returns:
        `[...]`.
    """
    teacher_logits, student_logits = wide(teacher_logits, student_logits)
    difference = student_logits - teacher_logits
    if centered:
        difference = difference - ops.mean(difference, axis=-1, keepdims=True)
    return ops.mean(ops.square(difference), axis=-1)


@registry.register
class LogitRegression(DistillationLoss):
    """The student's logits are regressed on the teacher's: `logit_regression` as a loss. It has no temperature.

    Args:
        centered: whether to leave out what all logits of a row have in common; False for sigmoids.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = LogitRegression()
    >>> float(loss([[2.0, 0.0]], [[5.0, 1.0]]))
    1.0
    """

    def __init__(self, *, centered: bool = True, **options: Any):
        super().__init__(**options)
        self.centered = bool(centered)

    def call(self, teacher, student, context):
        return logit_regression(teacher, student, self.centered)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_classes(self.name, teacher_outputs.shape, student_outputs.shape, exclusive=False)
        if self.centered and student_outputs.shape[-1] == 1:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} would be 0 for ever: one logit without its mean is 0.",
                    received=f"shape {tuple(student_outputs.shape)}",
                    expected="two or more classes",
                    fix="For sigmoid outputs use LogitRegression(centered=False).",
                )
            )

    def get_config(self):
        return {**super().get_config(), "centered": self.centered}
