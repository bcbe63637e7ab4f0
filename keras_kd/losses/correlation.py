"""DIST (Huang et al., 2022): correlates the student's probabilities with the teacher's, per row and per class."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_number
from keras_kd.losses.base import registry
from keras_kd.losses.logits import LogitsLoss
from keras_kd.losses.numerics import safe_sqrt, upcast

ROUNDING = 1e-6


def correlation_kd(
    teacher_logits: Any,
    student_logits: Any,
    temperature: Any = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    present: Any = None,
) -> Any:
    """`T^2 * (inter_weight * inter + intra_weight * intra)`, where distances are 1 - Pearson correlation.

    `inter` is the distance between the teacher's and the student's probabilities of a row, over the classes; `intra`
    is the distance between those of a class, over the rows of the batch, averaged over the classes, and the same
    number for every row. A correlation preserves the teacher's relations without requiring equal probabilities.

    The factor T^2 is from the published code; the paper's equations have none. That code also adds 1e-8 to the product
    of the norms, which makes small columns (of a class that is rare in the batch) count as uncorrelated; this
    implementation is exact. The distance is 1 if one side is constant and 0 if both are, with a gradient of 0: an
    exactly uniform student (a last layer initialized to zeros) learns nothing from this loss until another one moves
    it. Hence `intra` is 0 for a batch of one (1 in the published code).

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022.

    Args:
        teacher_logits, student_logits: `[batch, ..., classes]`, before the softmax; each position is a row.
        temperature: a positive scalar.
        inter_weight, intra_weight: the paper's beta and gamma.
        present: `[batch]` or `[batch, ...]`, the rows to include in `intra`; None includes all.

    Returns:
        `[batch, ...]`.
    """
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    teacher, student = (ops.softmax(logits / temperature, axis=-1) for logits in (teacher_logits, student_logits))
    included = _included(present, teacher)
    inter = _distance(teacher, student, ops.ones_like(teacher), axis=-1)
    intra = ops.mean(_distance(teacher, student, included, axis=tuple(range(len(teacher.shape) - 1))))
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def _included(present: Any, like: Any) -> Any:
    """`[batch, ..., 1]`: 1 for the included rows, 0 for the others."""
    if present is None:
        return ops.ones_like(like[..., :1])
    present = ops.cast(present, like.dtype)
    missing = len(like.shape) - len(present.shape)
    return ops.ones_like(like[..., :1]) * ops.reshape(present, (*ops.shape(present), *[1] * missing))


def _distance(teacher: Any, student: Any, included: Any, axis: Any) -> Any:
    """1 minus the correlation of the included values over `axis`; 0 if both sides are constant, 1 if only one is."""
    teacher, student = _direction(teacher, included, axis), _direction(student, included, axis)
    varies = [ops.any(ops.not_equal(values, 0.0), axis=axis) for values in (teacher, student)]
    # half the squared distance of unit vectors is 1 - cosine, without cancellation and exactly 0 for equal vectors
    half = ops.sum(ops.square(teacher - student), axis=axis) / 2.0
    return ops.where(ops.logical_xor(*varies), 1.0, half)


def _direction(values: Any, included: Any, axis: Any) -> Any:
    """Centers the included non-negative values and scales them to norm 1; 0 if they vary by no more than rounding."""
    values = values * included
    largest = ops.stop_gradient(ops.max(values, axis=axis, keepdims=True))
    values = values / ops.where(largest > 0, largest, 1.0)  # the squares of small probabilities underflow in float32
    mean = ops.sum(values, axis=axis, keepdims=True) / ops.maximum(ops.sum(included, axis=axis, keepdims=True), 1.0)
    centered = (values - mean) * included
    norm = safe_sqrt(ops.sum(ops.square(centered), axis=axis, keepdims=True))
    scale = safe_sqrt(ops.sum(ops.square(values), axis=axis, keepdims=True))
    is_constant = norm <= ROUNDING * scale
    return ops.where(is_constant, 0.0, centered / ops.where(is_constant, 1.0, norm))


@registry.register
class CorrelationKD(LogitsLoss):
    """Trains the student's probabilities to correlate with the teacher's (DIST), see `correlation_kd`.

    Args:
        temperature: a number or a schedule; None uses the distiller's. The authors use 1.0 for ImageNet, and 4.0 with a
            loss weight of 2 for CIFAR-100.
        inter_weight: the weight of the relations between the classes of a row, the paper's beta.
        intra_weight: the weight of the relations between the rows of a class, the paper's gamma.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = CorrelationKD(intra_weight=0.0)
    >>> round(float(loss([[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]])), 4)
    1.8671
    """

    def __init__(self, temperature: Any = 1.0, *, inter_weight: float = 1.0, intra_weight: float = 1.0, **options: Any):
        super().__init__(temperature, **options)
        self.inter_weight = check_number("inter_weight", inter_weight, at_least=0.0)
        self.intra_weight = check_number("intra_weight", intra_weight, at_least=0.0)

    def call(self, teacher, student, context):
        included = context.included(student)
        present = None if included is None else ops.squeeze(included, axis=-1)
        temperature = self.temperature_in(context)
        return correlation_kd(teacher, student, temperature, self.inter_weight, self.intra_weight, present=present)

    def get_config(self):
        return {**super().get_config(), "inter_weight": self.inter_weight, "intra_weight": self.intra_weight}
