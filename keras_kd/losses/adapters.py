"""Losses from elsewhere in the list of a `Distiller`: Keras' own, plain functions; and `get`, which takes them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.weighting import Weighted
from keras_kd.serialization import deserialize, register, serialize, snake_case


@register
class KerasDistillationLoss(DistillationLoss):
    """One of `keras.distillation`'s losses, as it is; sample weights cannot reach inside it."""

    def __init__(self, loss: keras.distillation.DistillationLoss):
        super().__init__(
            teacher=getattr(loss, "teacher_layer_name", None),
            student=getattr(loss, "student_layer_name", None),
            name=snake_case(type(loss).__name__),
        )
        self.loss = loss

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
    """A loss from a loss, a name, a mapping, one of Keras' distillation losses, or a function.

    A mapping has `name` and the settings of that loss; `weight` (a number or a schedule) and `examples` in it make the
    loss a `Weighted` one: `{name: hint, teacher: stage_3, student: stage_2, weight: 100}`.

    Raises:
        ConfigurationError: none of these.
    """
    if isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, keras.distillation.DistillationLoss):
        return KerasDistillationLoss(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return FunctionLoss(identifier)
    if isinstance(identifier, Mapping) and identifier.get("name") != "weighted":
        weighting = {key: identifier[key] for key in ("weight", "examples") if key in identifier}
        if weighting:
            inner = {key: value for key, value in identifier.items() if key not in weighting}
            return Weighted(registry.get(inner), **weighting)
    return registry.get(identifier)
