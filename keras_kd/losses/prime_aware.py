"""Prime-aware adaptive distillation (Zhang et al., 2020): weights examples by a variance that the student predicts."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.projectors import BATCH_NORM, normalize, published_uniform
from keras_kd.losses.adapters import KerasLoss
from keras_kd.losses.base import registry
from keras_kd.losses.numerics import upcast
from keras_kd.losses.reduction import expand_like
from keras_kd.losses.variational import VariationalInformation
from keras_kd.losses.weighted import Weighted, get
from keras_kd.losses.wrapper import LossWrapper
from keras_kd.serialization import deserialize, serialize

MIN_VARIANCE = 1e-6


def prime_aware(losses: Any, log_variance: Any) -> Any:
    """`loss / variance + log(variance)` with `variance = exp(log_variance) + 1e-6`.

    Examples of high variance, which the student cannot match, weigh less; the logarithm keeps the variance from growing
    without limit. The best variance is the loss itself. The value is negative if the loss is below 1, and at least
    `log(1e-6)`. The code that adds 1e-6 (torchdistill) leaves it out of the logarithm, which has no lower bound then.

    Source: Zhang et al., "Prime-Aware Adaptive Distillation", 2020, section 3.

    Args:
        losses: `[batch, ...]`, at least 0.
        log_variance: `[batch]`.

    Returns:
        The shape of `losses`.
    """
    losses, log_variance = upcast(losses, log_variance)
    least = math.log(MIN_VARIANCE)
    log_variance = expand_like(least + ops.softplus(log_variance - least), losses)
    return losses * ops.exp(-log_variance) + log_variance


@registry.register
class PrimeAwareKD(LossWrapper):
    """A loss weighted per example by a variance that the student predicts (PAD), see `prime_aware`.

    The logarithm of the variance is a linear function, with batch normalization, of the student's features that the
    wrapped loss reads, averaged over their positions; its gradient reaches the student. The paper uses a feature loss,
    as in the example, and starts from a student trained with that loss alone. Here the scale of the normalization
    starts at 0, hence every variance at 1, and the first steps are those of the wrapped loss. The variance is one per
    example; torchdistill predicts one for each of its features.

    Apply a weight from outside: `Weighted(PrimeAwareKD(...), 2.0)`. `Weighted(..., examples=...)` is the alternative
    without anything learned, from the teacher's confidence.

    Args:
        loss: a loss that is never negative, or anything that `keras_kd.losses.get` accepts.
        name: the name in the logs; None prefixes the name of the wrapped loss with `prime_aware_`.

    Raises:
        ConfigurationError: if the wrapped loss is weighted, may be negative, reads several layers, or returns one value
            for the batch.

    >>> from keras_kd.losses import Hint
    >>> loss = PrimeAwareKD(Hint(teacher="pool", student="pool"))
    >>> loss.name
    'prime_aware_hint_pool'
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 0.0]])), 4)  # 2 / 1 + log(1)
    2.0
    """

    def __init__(self, loss: Any, *, name: str | None = None):
        loss = get(loss)
        if isinstance(loss, Weighted) or loss.several_taps or _may_be_negative(loss):
            raise ConfigurationError(
                explain(
                    "The loss cannot be weighted by a variance.",
                    received=f"{loss.name!r}, a {type(loss).__name__}",
                    expected="a loss that compares one pair of layers or outputs, without a weight, and that is never "
                    "negative",
                    fix="Apply the weight outside: Weighted(PrimeAwareKD(Hint()), 2.0).",
                )
            )
        super().__init__(loss, name=name or f"prime_aware_{loss.name}")

    def build(self, teacher_shape, student_shape):
        super().build(teacher_shape, student_shape)
        self._predict = layers.Dense(1, kernel_initializer=published_uniform(), dtype="float32")
        self._norm = layers.BatchNormalization(**BATCH_NORM, gamma_initializer="zeros")
        self._predict.build((None, student_shape[-1]))
        self._norm.build((None, 1))

    def call(self, teacher, student, context):
        losses = ops.convert_to_tensor(self.loss.call(teacher, student, context))
        if len(losses.shape) == 0:
            raise ConfigurationError(
                explain(
                    f"The loss {self.loss.name!r} returns a scalar for the batch, which has no examples to weight.",
                    received="shape ()",
                    expected="a value per example, [batch] or [batch, positions]",
                )
            )
        return prime_aware(losses, self._log_variance(student, context))

    def _log_variance(self, student: Any, context: Any) -> Any:
        features, rows = _mean_over_positions(student, context.included(student))
        return normalize(self._norm, self._predict(features), rows, context.training)[:, 0]

    def get_config(self):
        return {"loss": serialize(self.loss), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]), name=config["name"])


def _may_be_negative(loss: Any) -> bool:
    is_cosine = isinstance(loss, KerasLoss) and isinstance(loss.loss, keras.losses.CosineSimilarity)
    return is_cosine or isinstance(loss, (PrimeAwareKD, VariationalInformation))


def _mean_over_positions(features: Any, included: Any) -> tuple[Any, Any]:
    """The mean over the included positions, `[batch, channels]`, and which rows have any, `[batch, 1]` or None."""
    (features,) = upcast(features)
    axes = tuple(range(1, len(features.shape) - 1))
    if included is None:
        return ops.mean(features, axis=axes) if axes else features, None
    included = ops.logical_and(included, ops.ones_like(features[..., :1], dtype="bool"))
    count = ops.sum(ops.cast(included, features.dtype), axis=axes) if axes else ops.cast(included, features.dtype)
    features = ops.where(included, features, ops.zeros_like(features))
    total = ops.sum(features, axis=axes) if axes else features
    return total / ops.maximum(count, 1.0), count > 0
