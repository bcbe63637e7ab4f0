"""Losses on the last layer's logits: soft targets (Hinton, Vinyals & Dean, 2015)."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.base import Context, DistillationLoss, registry
from keras_kd.losses.numerics import non_negative, upcast
from keras_kd.serialization import deserialize

DIVERGENCES = ("kl", "reverse_kl", "jensen_shannon")


def soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any, divergence: str = "kl") -> Any:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))` over the last axis.

    Both distributions come from a log-softmax in float32 (float64 stays float64), so the result is finite, and not
    negative, at any finite logits. T^2 keeps the size of the gradient as the temperature grows.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Args:
        teacher_logits: `[..., classes]`, before the softmax.
        student_logits: `[..., classes]`.
        temperature: a positive scalar.
        divergence: `"kl"` covers all that the teacher holds possible; `"reverse_kl"`, `KL(student || teacher)`, keeps
            to what it holds likely; `"jensen_shannon"` is the mean of the KLs of both to their mixture, at most log 2.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    teacher_log = ops.log_softmax(teacher_logits / temperature, axis=-1)
    student_log = ops.log_softmax(student_logits / temperature, axis=-1)
    return temperature**2 * _diverge(teacher_log, student_log, divergence)


def binary_soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any, divergence: str = "kl") -> Any:
    """`T^2 * KL` between the two Bernoulli distributions of each output, averaged over the last axis.

    For models that end in a sigmoid: one output for two classes, or one per label of a multi-label task. The mean over
    labels is that of `keras.losses.BinaryCrossentropy`, so that both parts of the loss keep one scale.

    Args:
        teacher_logits: `[..., labels]`, before the sigmoid.
        student_logits: `[..., labels]`.
        temperature: a positive scalar.
        divergence: as for `soft_targets`.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    teacher_log, student_log = (
        ops.stack([ops.log_sigmoid(logits), ops.log_sigmoid(-logits)], axis=-1)
        for logits in (teacher_logits / temperature, student_logits / temperature)
    )
    return temperature**2 * ops.mean(_diverge(teacher_log, student_log, divergence), axis=-1)


def _diverge(teacher_log: Any, student_log: Any, divergence: str) -> Any:
    """A divergence between two distributions over the last axis, given as log-probabilities."""
    check_choice("divergence", divergence, DIVERGENCES)
    if divergence == "kl":
        return non_negative(_kl(teacher_log, student_log))
    if divergence == "reverse_kl":
        return non_negative(_kl(student_log, teacher_log))
    return non_negative((_kl_to_mixture(teacher_log, student_log) + _kl_to_mixture(student_log, teacher_log)) / 2.0)


def _kl(log_p: Any, log_q: Any) -> Any:
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def _kl_to_mixture(log_p: Any, log_q: Any) -> Any:
    """`KL(p || (p + q) / 2)`.

    `log((p + q) / 2) - log p` is `softplus(log q - log p) - log 2`, with the right slope, 1/2, where p is q;
    `logaddexp` has 1 for one and 0 for the other there.
    """
    return ops.sum(ops.exp(log_p) * (math.log(2.0) - ops.softplus(log_q - log_p)), axis=-1)


class LogitsLoss(DistillationLoss):
    """Base of the losses on logits at a temperature; both sides have the same classes in the last axis.

    Args:
        temperature: a number or a schedule; None takes the distiller's (4.0 outside one).
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.
    """

    def __init__(self, temperature: Any = None, **options: Any):
        super().__init__(**options)
        self._temperature = None
        if temperature is not None:
            self._temperature = Hyperparameter("temperature", temperature, at_least=1e-3)

    @property
    def temperature(self):
        """The number or schedule given to this loss, or None."""
        return None if self._temperature is None else self._temperature.value

    def temperature_in(self, context: Context) -> Any:
        """The temperature that counts at this step."""
        return context.temperature if self._temperature is None else self._temperature.at(context.step)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_classes(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        temperature = None if self._temperature is None else self._temperature.get_config()
        return {**super().get_config(), "temperature": temperature}

    @classmethod
    def from_config(cls, config):
        return cls(**{key: deserialize(value) for key, value in config.items()})


@registry.register
class SoftTargets(LogitsLoss):
    """The student matches the teacher's softened class probabilities: `soft_targets` as a loss.

    Args:
        temperature: a number or a schedule; None takes the distiller's (4.0 outside one).
        activation: `"softmax"` for exclusive classes, `"sigmoid"` for `binary_soft_targets`.
        divergence: `"kl"`, `"reverse_kl"` or `"jensen_shannon"`.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = SoftTargets(temperature=2.0)
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 2.0]])), 4)
    1.8485
    """

    def __init__(self, temperature: Any = None, *, activation: str = "softmax", divergence: str = "kl", **options: Any):
        super().__init__(temperature, **options)
        self.activation = check_choice("activation", activation, ("softmax", "sigmoid"))
        self.divergence = check_choice("divergence", divergence, DIVERGENCES)

    def call(self, teacher, student, context):
        function = soft_targets if self.activation == "softmax" else binary_soft_targets
        return function(teacher, student, self.temperature_in(context), self.divergence)

    def validate_outputs(self, teacher_outputs, student_outputs):
        is_exclusive = self.activation == "softmax"
        check_same_classes(self.name, teacher_outputs.shape, student_outputs.shape, exclusive=is_exclusive)

    def get_config(self):
        return {**super().get_config(), "activation": self.activation, "divergence": self.divergence}


def check_same_classes(name: str, teacher_shape: Any, student_shape: Any, *, exclusive: bool = True) -> None:
    """Raises `ConfigurationError` where two shapes are not logits over the same classes.

    Args:
        name: of the loss, for the message.
        teacher_shape, student_shape: `(batch, ..., classes)`.
        exclusive: whether there have to be several classes.
    """
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    if len(teacher_shape) != len(student_shape) or teacher_shape[-1] != student_shape[-1]:
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares outputs of different shapes.",
                received=f"teacher {teacher_shape}, student {student_shape}",
                expected="the same classes in the last axis",
                fix="Name the outputs to compare with teacher=..., student=..., or build the student for the teacher's "
                "classes.",
            )
        )
    if exclusive and student_shape[-1] == 1:
        raise ConfigurationError(
            explain(
                f"The loss {name!r} would be 0 for ever: a softmax over one output is always 1.",
                received=f"shape {student_shape}",
                expected="two or more classes",
                fix="For one sigmoid output use SoftTargets(activation='sigmoid').",
            )
        )
