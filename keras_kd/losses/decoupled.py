"""Decoupled knowledge distillation (Zhao et al., 2022): the target class and the other classes, weighed apart."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.losses.base import registry
from keras_kd.losses.logits import LogitsLoss, binary_soft_targets, soft_targets
from keras_kd.losses.numerics import class_indices, upcast
from keras_kd.schedules import Linear

IMPOSSIBLE = -1e30  # a logit whose probability is exactly 0, at any temperature from 1e-3 on and beside any other logit


def decoupled_kd(
    teacher_logits: Any,
    student_logits: Any,
    labels: Any,
    temperature: Any,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
) -> Any:
    """`T^2 * (target_weight * TCKD + nontarget_weight * NCKD)`.

    TCKD is `KL` between the two answers to "is it the target?", `(p, 1 - p)` with p the probability of the target;
    NCKD is `KL` between the distributions over the other classes, each made to sum to 1. The loss of soft targets is
    `TCKD + (1 - p_teacher) * NCKD`; the weights free NCKD from how sure the teacher is.

    The published code subtracts 1000 from the target's logit to leave it out of NCKD and takes the logarithm of
    probabilities in TCKD, which is not a number at saturated logits; here both come from log-probabilities without the
    target, of the same value and finite at any logits.

    Source: Zhao et al., "Decoupled Knowledge Distillation", 2022.

    Args:
        teacher_logits, student_logits: `[..., classes]`, before the softmax.
        labels: class numbers `[...]` or `[..., 1]`, or one-hot `[..., classes]`. Where the number is -1 (no label), the
            target is the class that the teacher holds most likely.
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
    """`[..., classes]`: which class is the target."""
    labels = class_indices(labels, len(teacher_logits.shape) - 1)
    if len(labels.shape) != len(teacher_logits.shape) - 1:
        raise ConfigurationError(
            explain(
                "The labels do not belong to the logits that are compared.",
                received=f"labels of shape {tuple(labels.shape)}, logits of shape {tuple(teacher_logits.shape)}",
                expected="a label for each row of logits",
            )
        )
    likeliest = ops.cast(ops.argmax(teacher_logits, axis=-1), labels.dtype)
    labels = ops.where(labels < 0, likeliest, labels)
    return ops.equal(ops.expand_dims(labels, -1), ops.arange(teacher_logits.shape[-1], dtype=labels.dtype))


def _margin(logits: Any, is_target: Any) -> Any:
    """`log(p / (1 - p))` of the target's probability p, `[..., 1]`."""
    target = ops.sum(ops.where(is_target, logits, 0.0), axis=-1, keepdims=True)
    return target - ops.logsumexp(ops.where(is_target, IMPOSSIBLE, logits), axis=-1, keepdims=True)


@registry.register
class DecoupledKD(LogitsLoss):
    """Soft targets with the target class and the others weighed apart: `decoupled_kd` as a loss.

    It reads the labels; in a row without one (-1), and in a batch without any, the teacher's likeliest class is the
    target.

    Args:
        temperature: a number or a schedule; None takes the distiller's (4.0, as published).
        target_weight: of the target class against the rest, the paper's alpha.
        nontarget_weight: of the other classes among themselves, the paper's beta.
        warmup_steps: the loss grows in a straight line from 0 over this many steps; 0 is no warm-up. The published
            code takes 20 of 240 epochs and grows by epoch, `min(epoch / 20, 1)`.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> from keras_kd.losses import Context
    >>> loss = DecoupledKD(temperature=1.0, nontarget_weight=2.0)
    >>> value = loss([[2.0, 1.0, 0.0]], [[2.0, 0.0, 1.0]], context=Context(labels=[0]))
    >>> round(float(value), 4)  # the two disagree on the other classes only: 2 * NCKD
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
