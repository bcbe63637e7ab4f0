"""Losses on the last layer's logits: soft targets (Hinton, Vinyals & Dean, 2015)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.serialization import deserialize


def soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any) -> Any:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))` over the last axis.

    Both distributions come from a log-softmax in float32 (float64 stays float64), so the result is finite, and not
    negative, at any finite logits. T^2 keeps the size of the gradient as the temperature grows.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

    Args:
        teacher_logits: `[..., classes]`, before the softmax.
        student_logits: `[..., classes]`.
        temperature: a positive scalar.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = _prepare(teacher_logits, student_logits, temperature)
    teacher_log = ops.log_softmax(teacher_logits / temperature, axis=-1)
    student_log = ops.log_softmax(student_logits / temperature, axis=-1)
    divergence = ops.sum(ops.exp(teacher_log) * (teacher_log - student_log), axis=-1)
    return temperature**2 * _not_negative(divergence)


def binary_soft_targets(teacher_logits: Any, student_logits: Any, temperature: Any) -> Any:
    """`T^2 * KL` between the two Bernoulli distributions of each output, averaged over the last axis.

    For models that end in a sigmoid: one output for two classes, or one per label of a multi-label task. The mean over
    labels is that of `keras.losses.BinaryCrossentropy`, so that both parts of the loss keep one scale.

    Args:
        teacher_logits: `[..., labels]`, before the sigmoid.
        student_logits: `[..., labels]`.
        temperature: a positive scalar.

    Returns:
        `[...]`, in nats times T^2.
    """
    teacher_logits, student_logits, temperature = _prepare(teacher_logits, student_logits, temperature)
    teacher_logits, student_logits = teacher_logits / temperature, student_logits / temperature
    divergence = ops.sigmoid(teacher_logits) * (
        ops.log_sigmoid(teacher_logits) - ops.log_sigmoid(student_logits)
    ) + ops.sigmoid(-teacher_logits) * (ops.log_sigmoid(-teacher_logits) - ops.log_sigmoid(-student_logits))
    return temperature**2 * ops.mean(_not_negative(divergence), axis=-1)


@registry.register
class SoftTargets(DistillationLoss):
    """The student matches the teacher's softened class probabilities: `soft_targets` as a loss.

    Args:
        temperature: a number or a schedule; None takes the distiller's (4.0 outside one).
        activation: `"softmax"` for exclusive classes, `"sigmoid"` for `binary_soft_targets`.
        teacher, student, name, reduction: see `DistillationLoss`.

    >>> loss = SoftTargets(temperature=2.0)
    >>> round(float(loss([[2.0, 0.0]], [[0.0, 2.0]])), 4)
    1.8485
    """

    def __init__(
        self,
        temperature: Any = None,
        *,
        activation: str = "softmax",
        teacher: str | None = None,
        student: str | None = None,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ):
        super().__init__(teacher=teacher, student=student, name=name, reduction=reduction)
        self.activation = check_choice("activation", activation, ("softmax", "sigmoid"))
        self._temperature = None
        if temperature is not None:
            self._temperature = Hyperparameter("temperature", temperature, at_least=1e-3)

    @property
    def temperature(self):
        """The number or schedule given to this loss, or None."""
        return None if self._temperature is None else self._temperature.value

    def call(self, teacher, student, context):
        temperature = context.temperature if self._temperature is None else self._temperature.at(context.step)
        function = soft_targets if self.activation == "softmax" else binary_soft_targets
        return function(teacher, student, temperature)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_classes(self, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        temperature = None if self._temperature is None else self._temperature.get_config()
        return {**super().get_config(), "temperature": temperature, "activation": self.activation}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "temperature": deserialize(config["temperature"])})


def check_same_classes(loss: SoftTargets, teacher_shape: Any, student_shape: Any) -> None:
    """Raises `ConfigurationError` where two shapes are not logits over the same classes."""
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    if len(teacher_shape) != len(student_shape) or teacher_shape[-1] != student_shape[-1]:
        raise ConfigurationError(
            explain(
                f"The loss {loss.name!r} compares outputs of different shapes.",
                received=f"teacher {teacher_shape}, student {student_shape}",
                expected="the same classes in the last axis",
                fix="Name the outputs to compare with SoftTargets(teacher=..., student=...), or build the student "
                "for the teacher's classes.",
            )
        )
    if loss.activation == "softmax" and student_shape[-1] == 1:
        raise ConfigurationError(
            explain(
                f"The loss {loss.name!r} would be 0 for ever: a softmax over one output is always 1.",
                received=f"shape {student_shape}",
                expected="two or more classes",
                fix="For one sigmoid output use SoftTargets(activation='sigmoid').",
            )
        )


def _prepare(teacher_logits: Any, student_logits: Any, temperature: Any) -> tuple[Any, Any, Any]:
    teacher_logits, student_logits = map(ops.convert_to_tensor, (teacher_logits, student_logits))
    wide = "float64" in {
        str(teacher_logits.dtype),
        str(student_logits.dtype),
    }  # half precision would overflow
    dtype = "float64" if wide else "float32"
    return tuple(ops.cast(value, dtype) for value in (teacher_logits, student_logits, temperature))


def _not_negative(divergence: Any) -> Any:
    """Lifts what rounding pushed below 0 back to 0, and leaves the gradient as it is."""
    return divergence - ops.stop_gradient(ops.minimum(divergence, 0.0))
