"""What every distillation loss shares: which outputs it reads, masks, sample weights, reduction."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_kd.serialization import Registry, snake_case

registry = Registry("loss")

DEFAULT_TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class Context:
    """What a loss may read besides the two tensors.

    Attributes:
        labels: the labels of the output it looks at, or None where the batch has none.
        step: the optimizer's step, an integer or an integer scalar tensor.
        temperature: the distiller's temperature, a scalar, for losses that were given none of their own.
    """

    labels: Any = None
    step: Any = 0
    temperature: Any = DEFAULT_TEMPERATURE


class DistillationLoss(keras.distillation.DistillationLoss):
    """Base of all distillation losses; also usable inside `keras.distillation.Distiller`.

    A subclass writes `call(teacher, student, context) -> [batch, ...]`; this class averages what follows the batch axis
    (over the unmasked positions), applies sample weights and reduces.

    Args:
        teacher: the teacher's output to read; None is its only one.
        student: the student's output to read; None is its only one.
        name: the name in the logs; None is the class name in snake_case, with the output's name behind it.
        reduction: as in `keras.losses.Loss`; by default the sum over the batch divided by its size.
    """

    def __init__(
        self,
        *,
        teacher: str | None = None,
        student: str | None = None,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ):
        self.teacher = teacher
        self.student = student
        self.name = name or "/".join(filter(None, (snake_case(type(self).__name__), student)))
        self.reduction = reduction
        self._reduce = _Reduction(reduction=reduction, name="distillation")

    def call(self, teacher: Any, student: Any, context: Context) -> Any:
        """The loss of each example, `[batch, ...]` or a scalar."""
        raise NotImplementedError

    def __call__(self, teacher: Any, student: Any, *, sample_weight: Any = None, context: Context | None = None):
        """The reduced loss, a float32 scalar.

        Args:
            teacher: what the teacher said, `[batch, ...]`.
            student: what the student said; its Keras mask, if any, is honoured.
            sample_weight: `[batch]`, or of the shape of the unreduced loss.
        """
        values = self.call(teacher, student, context or Context())
        mask = getattr(student, "_keras_mask", None)
        values, sample_weight = _per_example(values, mask, sample_weight)
        return self._reduce(values, values, sample_weight=sample_weight)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """What `keras.distillation.Distiller` calls."""
        return self(teacher_outputs, student_outputs, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher,
            "student": self.student,
            "name": self.name,
            "reduction": self.reduction,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistillationLoss:
        return cls(**config)


class _Reduction(keras.losses.Loss):
    """Keras' own weighting and reduction of values that are computed already, many replicas included."""

    def call(self, y_true, y_pred):
        return y_pred


def _per_example(values: Any, mask: Any, sample_weight: Any) -> tuple[Any, Any]:
    """`[batch, ...]` to `[batch]`: the mean over the positions that count, and the weights still to apply."""
    values = ops.convert_to_tensor(values)
    if len(values.shape) == 0:
        return ops.expand_dims(values, 0), None
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, values.dtype)
        while len(sample_weight.shape) > len(values.shape):
            sample_weight = ops.squeeze(sample_weight, -1)
    if len(values.shape) == 1:
        return values, sample_weight
    if sample_weight is not None and len(sample_weight.shape) > 1:
        values, sample_weight = values * sample_weight, None
    positions = tuple(range(1, len(values.shape)))
    if mask is None:
        return ops.mean(values, axis=positions), sample_weight
    mask = ops.cast(mask, values.dtype)
    count = ops.maximum(ops.sum(mask, axis=positions), 1.0)
    return ops.sum(values * mask, axis=positions) / count, sample_weight
