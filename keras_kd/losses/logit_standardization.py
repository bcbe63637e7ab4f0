"""Logit standardization (Sun et al., 2024): a loss on logits that does not require both models to share a scale."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.base import registry
from keras_kd.losses.logits import check_same_classes
from keras_kd.losses.numerics import safe_sqrt, upcast
from keras_kd.losses.weighted import Weighted, get
from keras_kd.losses.wrapper import LossWrapper
from keras_kd.serialization import deserialize, serialize

EPSILON = 1e-7
ROUNDING = 1e-6


def standardize_logits(logits: Any, temperature: Any = 1.0) -> Any:
    """Standardizes logits over the classes: `(z - mean) / (std + 1e-7) / temperature`.

    The standard deviation divides by `classes - 1`, as in the published code; the paper's algorithm divides by
    `classes`, which is equivalent to a temperature larger by `sqrt(classes / (classes - 1))`. A row of equal logits
    carries no information: it becomes 0 with a gradient of 0 (the published code divides that gradient by 1e-7). The
    same applies to a row with a deviation below rounding, 1e-6 of its mean.

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
    is_constant = deviation <= EPSILON + ROUNDING * ops.abs(mean)
    scaled = centered / (ops.where(is_constant, 1.0, deviation) + EPSILON)
    return ops.where(is_constant, 0.0, scaled) / temperature


@registry.register
class LogitStandardization(LossWrapper):
    """A loss on standardized logits: only the relations between a row's logits matter, not their mean or scale.

    The temperature is that of the wrapped loss, including its factor T^2. The wrapped loss also determines which
    outputs are read. Apply a weight from outside: `Weighted(LogitStandardization(...), 9.0)`.

    Args:
        loss: a loss on logits, or anything that `keras_kd.losses.get` accepts.
        name: the name in the logs; None prefixes the name of the wrapped loss with `standardized_`.

    Raises:
        ConfigurationError: if the wrapped loss is weighted, or compares anything but one pair of logits.

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
                    "The loss does not support standardized logits.",
                    received=repr(loss.name) + (", a weighted loss" if isinstance(loss, Weighted) else ""),
                    expected="a loss that compares logits with logits",
                    fix="Apply the weight outside: Weighted(LogitStandardization(SoftTargets()), 9.0).",
                )
            )
        super().__init__(loss, name=name or f"standardized_{loss.name}")

    def call(self, teacher, student, context):
        return self.loss.call(standardize_logits(teacher), standardize_logits(student), context)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_classes(self.name, teacher_outputs.shape, student_outputs.shape)
        super().validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        return {"loss": serialize(self.loss), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]), name=config["name"])
