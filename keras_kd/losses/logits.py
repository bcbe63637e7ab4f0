"""Soft targets (Hinton, Vinyals & Dean, 2015), and the base class of losses on logits."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features.shapes import same_shape
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.base import Context, DistillationLoss, registry
from keras_kd.losses.numerics import non_negative, upcast
from keras_kd.serialization import deserialize

DIVERGENCES = ("kl", "reverse_kl", "jensen_shannon")


def soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any, divergence: str = "kl") -> Any:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))` over the last axis.

    Both distributions are computed with a log-softmax in float32 (float64 stays float64), so the result is finite and
    non-negative for any finite logits. The factor T^2 keeps the gradient's magnitude constant as T grows.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Args:
        teacher_logits: `[..., classes]`, before the softmax.
        student_logits: `[..., classes]`.
        temperature: a positive scalar.
        divergence: `"kl"`, which is mode-covering; `"reverse_kl"`, `KL(student || teacher)`, which is mode-seeking; or
            `"jensen_shannon"`, the mean of the KL divergences of both to their mixture, at most log 2.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    teacher_log = ops.log_softmax(teacher_logits / temperature, axis=-1)
    student_log = ops.log_softmax(student_logits / temperature, axis=-1)
    return temperature**2 * _diverge(teacher_log, student_log, divergence)


def binary_soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any, divergence: str = "kl") -> Any:
    """`T^2 * KL` between the Bernoulli distributions of each output, averaged over the last axis.

    For models that end in a sigmoid: one output for two classes, or one per label of a multi-label task. Labels are
    averaged as in `keras.losses.BinaryCrossentropy`, so the supervised and the distillation loss have the same scale.

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
    """The divergence between two distributions over the last axis, given as log-probabilities."""
    if divergence == "kl":
        return non_negative(_kl(teacher_log, student_log))
    if divergence == "reverse_kl":
        return non_negative(_kl(student_log, teacher_log))
    check_choice("divergence", divergence, DIVERGENCES)
    return non_negative((_kl_to_mixture(teacher_log, student_log) + _kl_to_mixture(student_log, teacher_log)) / 2.0)


def _kl(log_p: Any, log_q: Any) -> Any:
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def _kl_to_mixture(log_p: Any, log_q: Any) -> Any:
    """`KL(p || (p + q) / 2)`.

    `log((p + q) / 2) - log p` is computed as `softplus(log q - log p) - log 2`, with the correct slope of 1/2 at
    p = q, where the gradient of `logaddexp` is 1 for one argument and 0 for the other.
    """
    return ops.sum(ops.exp(log_p) * (math.log(2.0) - ops.softplus(log_q - log_p)), axis=-1)


class LogitsLoss(DistillationLoss):
    """Base class of losses on logits with a temperature; teacher and student have the same classes in the last axis.

    Args:
        temperature: a number or a schedule; None uses the distiller's (4.0 without a distiller).
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.
    """

    def __init__(self, temperature: Any = None, **options: Any):
        super().__init__(**options)
        self._temperature = None
        if temperature is not None:
            self._temperature = Hyperparameter("temperature", temperature, at_least=1e-3)

    @property
    def temperature(self):
        """The number or schedule passed to this loss, or None."""
        return None if self._temperature is None else self._temperature.value

    def temperature_in(self, context: Context) -> Any:
        """The temperature in effect at this step."""
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
    """Trains the student to match the teacher's softened class probabilities, see `soft_targets`.

    Args:
        temperature: a number or a schedule; None uses the distiller's (4.0 without a distiller).
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


def check_same_shape(name: str, teacher_shape: Any, student_shape: Any) -> None:
    """Raises `ConfigurationError` if the shapes of the outputs that the loss `name` compares differ."""
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    if not same_shape(teacher_shape, student_shape):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares outputs of different shapes.",
                received=f"teacher {teacher_shape}, student {student_shape}",
                expected="the same shape",
                fix="Name the outputs to compare with teacher=..., student=....",
            )
        )


def check_same_classes(name: str, teacher_shape: Any, student_shape: Any, *, exclusive: bool = True) -> None:
    """Checks that two shapes are logits over the same classes.

    Args:
        name: the name of the loss, for the error message.
        teacher_shape, student_shape: `(batch, ..., classes)`.
        exclusive: whether the classes are mutually exclusive, so that at least two are required.

    Raises:
        ConfigurationError: if the shapes differ, or if there are too few classes.
    """
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    if len(teacher_shape) != len(student_shape) or teacher_shape[-1] != student_shape[-1]:
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares outputs of different shapes.",
                received=f"teacher {teacher_shape}, student {student_shape}",
                expected="the same classes in the last axis",
                fix="Name the outputs to compare with teacher=..., student=..., or build the student with the "
                "teacher's classes.",
            )
        )
    if exclusive and student_shape[-1] == 1:
        raise ConfigurationError(
            explain(
                f"The loss {name!r} would always be 0: a softmax over one output is constant.",
                received=f"shape {student_shape}",
                expected="two or more classes",
                fix="For a single sigmoid output, use SoftTargets(activation='sigmoid').",
            )
        )
