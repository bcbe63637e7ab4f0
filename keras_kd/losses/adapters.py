"""Adapters that make Keras losses and plain functions usable as distillation losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import loss_settings
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.keras_losses import check_compares_raw_outputs, is_of_library, name_of
from keras_kd.losses.logits import check_same_shape
from keras_kd.losses.numerics import upcast
from keras_kd.serialization import deserialize, register, serialize, snake_case


@register
class KerasLoss(DistillationLoss):
    """A `keras.losses.Loss` between the logits of both models, with sample weights, masks and its own reduction.

    Args:
        loss: a Keras loss that compares values with values, or a custom one.

    Raises:
        ConfigurationError: if the loss takes probabilities or labels, or has no reduction.
    """

    def __init__(self, loss: keras.losses.Loss):
        check_compares_raw_outputs(loss)
        if loss.reduction in (None, "none"):
            raise ConfigurationError(
                explain(
                    f"The loss {loss.name!r} does not reduce to a scalar that can be minimized.",
                    received=f"reduction={loss.reduction!r}",
                    expected="'sum_over_batch_size', as by default, or another reduction",
                )
            )
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss

    def call(self, teacher, student, context):
        return self.loss.call(*upcast(teacher, student))

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_same_shape(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        # Keras omits settings such as the delta of Huber from a loss's own config
        settings = loss_settings(self.loss) if is_of_library(type(self.loss)) else {}
        return {"loss": serialize(self.loss), "settings": settings}

    @classmethod
    def from_config(cls, config):
        loss = deserialize(config["loss"])
        if config["settings"]:
            loss = type(loss)(**{**loss.get_config(), **config["settings"]})
        return cls(loss)


@register
class KerasDistillationLoss(DistillationLoss):
    """A loss of `keras.distillation`. Its two built-in classes are computed per example, so that weights apply.

    Custom classes return a scalar for the batch, which supports no weights.

    Raises:
        ConfigurationError: if an inner loss takes probabilities but would receive logits, such as the default loss of
            `LogitsDistillation`.
    """

    def __init__(self, loss: keras.distillation.DistillationLoss):
        taps = (getattr(loss, f"{role}_layer_name", None) for role in ("teacher", "student"))
        teacher, student = taps
        super().__init__(teacher=teacher, student=student, name=snake_case(type(loss).__name__))
        if teacher is None and student is None:
            for inner in _inner_losses(loss):
                check_compares_raw_outputs(inner)
        self.loss = loss

    def call(self, teacher, student, context):
        if not _is_known(self.loss) or keras.tree.is_nested(self.loss.loss):
            return self.loss.compute_loss(teacher, student)
        compare, factor = self.loss.loss, 1.0
        teacher, student = upcast(teacher, student)
        if isinstance(self.loss, keras.distillation.LogitsDistillation):
            teacher, student = (logits / self.loss.temperature for logits in (teacher, student))
            if isinstance(compare, keras.losses.KLDivergence):
                teacher, student = ops.softmax(teacher, axis=-1), ops.softmax(student, axis=-1)
                factor = self.loss.temperature**2
        return factor * (compare.call if isinstance(compare, keras.losses.Loss) else compare)(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.loss.validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        return {"loss": serialize(self.loss)}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["loss"]))


@register
class FunctionLoss(DistillationLoss):
    """A plain function `(teacher, student) -> [batch, ...]`, or `-> scalar` if there are no weights and no mask.

    Raises:
        ConfigurationError: for a Keras function that takes probabilities or labels.
    """

    def __init__(self, function: Callable[[Any, Any], Any]):
        check_compares_raw_outputs(function)
        super().__init__(name=snake_case(name_of(function)))
        self.function = function

    def call(self, teacher, student, context):
        return self.function(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        if is_of_library(self.function):
            check_same_shape(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        return {"function": serialize(self.function)}

    @classmethod
    def from_config(cls, config):
        return cls(deserialize(config["function"]))


def _is_known(loss: Any) -> bool:
    """Whether a loss uses `compute_loss` of one of the two classes of `keras.distillation`."""
    known = (keras.distillation.LogitsDistillation, keras.distillation.FeatureDistillation)
    return type(loss).compute_loss in [cls.compute_loss for cls in known]


def _inner_losses(loss: Any) -> list[Any]:
    """The inner losses that receive unmodified logits."""
    if not _is_known(loss):
        return []
    inner = [item for item in keras.tree.flatten(loss.loss) if item is not None]
    if isinstance(loss, keras.distillation.LogitsDistillation):
        return [item for item in inner if not isinstance(item, keras.losses.KLDivergence)]  # given probabilities
    return inner
