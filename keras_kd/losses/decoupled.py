"""Decoupled knowledge distillation (Zhao et al., 2022): separate weights for the target class and the other classes."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.losses.base import registry
from keras_kd.losses.logits import LogitsLoss, binary_soft_targets, soft_targets
from keras_kd.losses.numerics import upcast
from keras_kd.schedules import Linear
from keras_kd.tasks.tensors import class_indices

IMPOSSIBLE = -1e30  # a logit with probability exactly 0 at any temperature of at least 1e-3, whatever the other logits


def decoupled_kd(
    teacher_logits: Any,
    student_logits: Any,
    labels: Any,
    temperature: Any,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
) -> Any:
    """`T^2 * (target_weight * TCKD + nontarget_weight * NCKD)`.

    TCKD is the `KL` between the binary distributions `(p, 1 - p)`, where p is the probability of the target class; NCKD
    is the `KL` between the distributions over the other classes, each renormalized to sum to 1. The soft-target loss is
    `TCKD + (1 - p_teacher) * NCKD`; the weights decouple NCKD from the teacher's confidence.

    The published code subtracts 1000 from the target's logit to exclude it from NCKD and takes the logarithm of
    probabilities in TCKD, which is NaN at saturated logits. Here both are computed from log-probabilities that exclude
    the target: the same value, and finite at any logits.

    Source: Zhao et al., "Decoupled Knowledge Distillation", 2022.

    Args:
        teacher_logits, student_logits: `[..., classes]`, before the softmax.
        labels: class indices `[...]` or `[..., 1]`, or one-hot `[..., classes]`. For unlabeled rows (index -1) the
            teacher's most likely class is the target.
        temperature: a positive scalar.
        target_weight, nontarget_weight: the paper's alpha and beta.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    is_target = _targets(labels, teacher_logits)
    teacher_others, student_others = (ops.where(is_target, IMPOSSIBLE, z) for z in (teacher_logits, student_logits))
    teacher_margin, student_margin = (_margin(z / temperature, is_target) for z in (teacher_logits, student_logits))
    target = temperature**2 * binary_soft_targets(teacher_margin, student_margin, 1.0)
    nontarget = soft_targets(teacher_others, student_others, temperature)
    return target_weight * target + nontarget_weight * nontarget


def _targets(labels: Any, teacher_logits: Any) -> Any:
    """A bool mask of the target class, `[..., classes]`."""
    labels = class_indices(labels, len(teacher_logits.shape) - 1)
    if len(labels.shape) != len(teacher_logits.shape) - 1:
        raise ConfigurationError(
            explain(
                "The labels do not match the logits that are compared.",
                received=f"labels of shape {tuple(labels.shape)}, logits of shape {tuple(teacher_logits.shape)}",
                expected="one label per row of logits",
            )
        )
    most_likely = ops.cast(ops.argmax(teacher_logits, axis=-1), labels.dtype)
    labels = ops.where(labels < 0, most_likely, labels)
    return ops.equal(ops.expand_dims(labels, -1), ops.arange(teacher_logits.shape[-1], dtype=labels.dtype))


def _margin(logits: Any, is_target: Any) -> Any:
    """The log-odds `log(p / (1 - p))` of the target's probability p, `[..., 1]`."""
    target = ops.sum(ops.where(is_target, logits, 0.0), axis=-1, keepdims=True)
    return target - ops.logsumexp(ops.where(is_target, IMPOSSIBLE, logits), axis=-1, keepdims=True)


@registry.register
class DecoupledKD(LogitsLoss):
    """Soft targets with separate weights for the target class and the other classes, see `decoupled_kd`.

    Reads the labels. For an unlabeled row (-1), or a batch without labels, the target is the teacher's most likely
    class.

    Args:
        temperature: a number or a schedule; None uses the distiller's (4.0, as published).
        target_weight: the weight of the target class against the rest, the paper's alpha.
        nontarget_weight: the weight of the other classes among themselves, the paper's beta.
        warmup_steps: the number of steps over which the loss grows linearly from 0; 0 disables the warm-up. The
            published code grows it per epoch, `min(epoch / 20, 1)` of 240 epochs.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> from keras_kd.losses import Context
    >>> loss = DecoupledKD(temperature=1.0, nontarget_weight=2.0)
    >>> value = loss([[2.0, 1.0, 0.0]], [[2.0, 0.0, 1.0]], context=Context(labels=[0]))
    >>> round(float(value), 4)  # the models differ in the other classes only: 2 * NCKD
    0.9242
    """

    def __init__(
        self,
        temperature: Any = None,
        *,
        target_weight: float = 1.0,
        nontarget_weight: float = 8.0,
        warmup_steps: int = 0,
        **options: Any,
    ):
        super().__init__(temperature, **options)
        self.target_weight = check_number("target_weight", target_weight, at_least=0.0)
        self.nontarget_weight = check_number("nontarget_weight", nontarget_weight, at_least=0.0)
        self.warmup_steps = warmup_steps
        self._warmup = None if warmup_steps == 0 else Linear(0.0, 1.0, steps=warmup_steps)

    def call(self, teacher, student, context):
        labels = context.labels
        if labels is None:
            labels = ops.full(ops.shape(teacher)[:-1], -1, dtype="int32")
        temperature = self.temperature_in(context)
        weights = self.target_weight, self.nontarget_weight
        values = decoupled_kd(teacher, student, labels, temperature, *weights)
        return values if self._warmup is None else ops.multiply(self._warmup(context.step), values)

    def get_config(self):
        return {
            **super().get_config(),
            "target_weight": self.target_weight,
            "nontarget_weight": self.nontarget_weight,
            "warmup_steps": self.warmup_steps,
        }
