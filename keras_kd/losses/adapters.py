"""Losses from elsewhere in the list of a `Distiller`: Keras' own, plain functions, and a weight around any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.serialization import deserialize, register, serialize, snake_case


@registry.register
class Weighted(DistillationLoss):
    """A loss times a weight: a number or a schedule, 0 or more.

    >>> from keras_kd.losses import SoftTargets
    >>> Weighted(SoftTargets(), 0.5).name
    'soft_targets'
    """

    def __init__(self, loss: Any, weight: Any = 1.0):
        self.loss = get(loss)
        super().__init__(teacher=self.loss.teacher, student=self.loss.student, name=self.loss.name)
        self._weight = Hyperparameter("weight", weight, at_least=0.0)

    @property
    def weight(self):
        """The number or schedule by which the loss is multiplied."""
        return self._weight.value

    @weight.setter
    def weight(self, value):
        self._weight.set(value)

    def __call__(self, teacher, student, *, sample_weight=None, context=None):
        step = 0 if context is None else context.step
        value = self.loss(teacher, student, sample_weight=sample_weight, context=context)
        return self._weight.at(step) * value

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.loss.validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        return {"loss": serialize(self.loss), "weight": self._weight.get_config()}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]), deserialize(config["weight"]))


@register
class KerasDistillationLoss(DistillationLoss):
    """One of `keras.distillation`'s losses, as it is; sample weights cannot reach inside it."""

    def __init__(self, loss: keras.distillation.DistillationLoss):
        super().__init__(name=snake_case(type(loss).__name__))
        self.loss = loss
        layers = [getattr(loss, name, None) for name in ("teacher_layer_name", "student_layer_name")]
        if any(layers):
            raise ConfigurationError(
                explain(
                    "Losses of keras.distillation on inner layers are not supported here.",
                    received=f"{type(loss).__name__} on layers {layers}",
                    expected="a loss on the models' outputs",
                )
            )

    def call(self, teacher, student, context):
        return self.loss.compute_loss(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.loss.validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        return {"loss": serialize(self.loss)}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]))


@register
class FunctionLoss(DistillationLoss):
    """A plain function `(teacher, student) -> [batch, ...]`, or `-> scalar`."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        name = getattr(function, "__name__", "function")
        super().__init__(name="function" if name == "<lambda>" else name)
        self.function = function

    def call(self, teacher, student, context):
        return self.function(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        pass

    def get_config(self):
        return {"function": serialize(self.function)}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["function"]))


def get(identifier: Any) -> DistillationLoss:
    """A loss from a loss, a name, a mapping with `name`, one of Keras' distillation losses, or a function.

    Raises:
        ConfigurationError: none of these.
    """
    if isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, keras.distillation.DistillationLoss):
        return KerasDistillationLoss(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return FunctionLoss(identifier)
    return registry.get(identifier)
