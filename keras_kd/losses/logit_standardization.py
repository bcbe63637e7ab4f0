"""Standardised logits (Sun et al., 2024): any loss on logits, without the demand that both have one scale."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.logits import check_same_classes
from keras_kd.losses.numerics import safe_sqrt, upcast
from keras_kd.losses.weighted import Weighted, get
from keras_kd.serialization import deserialize, serialize

EPSILON = 1e-7
LOST_IN_ROUNDING = 1e-6


def standardize_logits(logits: Any, temperature: Any = 1.0) -> Any:
    """`(z - mean) / (std + 1e-7) / temperature` over the classes.

    The deviation is the published code's, over `classes - 1`; the paper's algorithm divides by `classes`, which is a
    temperature larger by `sqrt(classes / (classes - 1))`. A row whose logits are all the same has no order to teach: it
    becomes 0, with a gradient of 0; in the published code the gradient there is divided by 1e-7. So does a
    row whose deviation is lost in rounding, below 1e-6 of its mean.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", 2024.

    Args:
        logits: `[..., classes]`.
        temperature: a positive scalar.

    Returns:
        `[..., classes]`.
    """
    logits, temperature = upcast(logits, temperature)
    mean = ops.mean(logits, axis=-1, keepdims=True)
    centered = logits - mean
    degrees = max(logits.shape[-1] - 1, 1)
    deviation = safe_sqrt(ops.sum(ops.square(centered), axis=-1, keepdims=True) / degrees)
    is_constant = deviation <= EPSILON + LOST_IN_ROUNDING * ops.abs(mean)
    scaled = centered / (ops.where(is_constant, 1.0, deviation) + EPSILON)
    return ops.where(is_constant, 0.0, scaled) / temperature


@registry.register
class LogitStandardization(DistillationLoss):
    """A loss on logits that compares z-scores: what matters is their order and distances, not their size.

    The temperature is that of the wrapped loss, T^2 included. The loss reads what the wrapped one reads; a weight goes
    around it, `Weighted(LogitStandardization(...), 9.0)`.

    Args:
        loss: a loss on logits, or what `keras_kd.losses.get` takes.
        name: the name in the logs; None is that of the wrapped loss with `standardized_` before it.

    >>> from keras_kd.losses import SoftTargets
    >>> loss = LogitStandardization(SoftTargets(temperature=2.0))
    >>> loss.name
    'standardized_soft_targets'
    >>> round(float(loss([[2.0, 0.0, 1.0]], [[20.0, 0.0, 10.0]])), 6)
    0.0
    """

    def __init__(self, loss: Any = "soft_targets", *, name: str | None = None):
        loss = get(loss)
        if isinstance(loss, Weighted) or loss.several_taps:
            raise ConfigurationError(
                explain(
                    "This loss cannot be given standardised logits.",
                    received=repr(loss.name) + (", a weighted loss" if isinstance(loss, Weighted) else ""),
                    expected="a loss that compares logits with logits",
                    fix="A weight goes around it: Weighted(LogitStandardization(SoftTargets()), 9.0).",
                )
            )
        super().__init__(
            teacher=loss.teacher,
            student=loss.student,
            name=name or f"standardized_{loss.name}",
            reduction=loss.reduction,
        )
        self.loss = loss

    @property
    def leaves_out_padding(self):
        return self.loss.leaves_out_padding

    def build(self, teacher_shape, student_shape):
        if not self.loss.built:
            self.loss.build(teacher_shape, student_shape)

    def call(self, teacher, student, context):
        return self.loss.call(standardize_logits(teacher), standardize_logits(student), context)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_classes(self.name, teacher_outputs.shape, student_outputs.shape)
        self.loss.validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        return {"loss": serialize(self.loss), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]), name=config["name"])
