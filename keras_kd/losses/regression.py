"""Regression on logits (Ba & Caruana, 2014) and on the outputs of regression models."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, check_number, explain
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.logits import check_same_classes, check_same_shape
from keras_kd.losses.numerics import upcast


def logit_regression(teacher_logits: Any, student_logits: Any, centered: bool = True) -> Any:
    """`mean over classes of (student - teacher)^2`, with each row of logits centered over the classes.

    A softmax is invariant to a constant added to all logits of a row, so `centered` removes it; the remainder is twice
    the limit of `T^2 * KL` at high temperature. The paper's equation is half the sum over the classes of the uncentered
    logits; the mean keeps the scale independent of the number of classes.

    Source: Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014; the limit is from Hinton, Vinyals &
    Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.1.

    Args:
        teacher_logits, student_logits: `[..., classes]`, before the softmax or the sigmoid.
        centered: whether to subtract the mean over the classes; use False for sigmoids, where a constant matters.

    Returns:
        `[...]`.
    """
    teacher_logits, student_logits = upcast(teacher_logits, student_logits)
    difference = student_logits - teacher_logits
    if centered:
        difference = difference - ops.mean(difference, axis=-1, keepdims=True)
    return ops.mean(ops.square(difference), axis=-1)


@registry.register
class LogitRegression(DistillationLoss):
    """Regresses the student's logits on the teacher's, see `logit_regression`. There is no temperature.

    For classifiers. For regression models use `OutputRegression`, which does not remove a common offset.

    Args:
        centered: whether to subtract each row's mean over the classes; use False for sigmoids.
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
                    f"The loss {self.name!r} would always be 0: a single logit minus its mean is 0.",
                    received=f"shape {tuple(student_outputs.shape)}",
                    expected="two or more classes",
                    fix="For sigmoid outputs, use LogitRegression(centered=False); for a regression model, "
                    "OutputRegression().",
                )
            )

    def get_config(self):
        return {**super().get_config(), "centered": self.centered}


DIFFERENCES = ("squared", "absolute", "huber")


def output_regression(
    teacher_outputs: Any, student_outputs: Any, difference: str = "squared", delta: float = 1.0
) -> Any:
    """`mean over the last axis of d(student - teacher)`, for regression outputs rather than logits.

    `d(e)` is `e^2` (squared), `|e|` (absolute), or `e^2 / 2` up to `|e| = delta` and `delta * (|e| - delta / 2)` beyond
    (huber). These are Keras' own regression losses with the teacher's outputs in place of the labels.

    Source: Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014, for the squared one; Huber, "Robust Estimation
    of a Location Parameter", 1964.

    Args:
        teacher_outputs, student_outputs: `[..., outputs]`, or `[batch]` for one number per example.
        difference: `"squared"`, `"absolute"` or `"huber"`.
        delta: the threshold of the Huber difference, in the unit of the outputs.

    Returns:
        `[...]`; `[batch]` for `[batch]`.
    """
    check_choice("difference", difference, DIFFERENCES)
    teacher_outputs, student_outputs = upcast(teacher_outputs, student_outputs)
    error = student_outputs - teacher_outputs
    values = _differences(error, difference, delta)
    return ops.mean(values, axis=-1) if len(values.shape) > 1 else values


def _differences(error: Any, difference: str, delta: float) -> Any:
    if difference == "squared":
        return ops.square(error)
    size = ops.abs(error)
    if difference == "absolute":
        return size
    return ops.where(size <= delta, ops.square(error) / 2.0, delta * (size - delta / 2.0))


@registry.register
class OutputRegression(DistillationLoss):
    """Regresses the student's outputs on the teacher's, see `output_regression`. There is no temperature.

    For regression models with one or more outputs. It is the default term of an output that is compiled with
    `MeanSquaredError`, `MeanAbsoluteError` or `Huber`.

    Args:
        difference: `"squared"`, `"absolute"` or `"huber"`.
        delta: the threshold of the Huber difference, above 0, in the unit of the outputs.
        activation: use `"sigmoid"` if both models end in a sigmoid: a distiller passes the inputs of that activation
            to a loss, and this setting applies it again, so that the outputs themselves are compared. None compares
            the values as they are passed.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    Raises:
        ConfigurationError: for an unknown difference or activation, a delta that is not above 0, or outputs of
            different shapes.

    >>> loss = OutputRegression()
    >>> float(loss([[2.0], [0.0]], [[5.0], [1.0]]))
    5.0
    """

    def __init__(
        self, *, difference: str = "squared", delta: float = 1.0, activation: str | None = None, **options: Any
    ):
        super().__init__(**options)
        self.difference = check_choice("difference", difference, DIFFERENCES)
        self.delta = check_number("delta", delta, at_least=1e-12)
        self.activation = check_choice("activation", activation, (None, "sigmoid"))

    def call(self, teacher, student, context):
        if self.activation == "sigmoid":
            teacher, student = (ops.sigmoid(outputs) for outputs in upcast(teacher, student))
        return output_regression(teacher, student, self.difference, self.delta)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_shape(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        return {
            **super().get_config(),
            "difference": self.difference,
            "delta": self.delta,
            "activation": self.activation,
        }
