"""A weight around any loss; and `get`, which makes a loss of whatever names one, weighted where it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.adapters import FunctionLoss, KerasDistillationLoss, KerasLoss
from keras_kd.losses.base import Context, DistillationLoss, registry
from keras_kd.losses.example_weights import EXAMPLE_WEIGHTS
from keras_kd.losses.keras_losses import check_compares_raw_outputs, keras_loss_named
from keras_kd.serialization import deserialize, serialize


@registry.register
class Weighted(DistillationLoss):
    """A loss times a weight.

    Args:
        loss: a loss, or what `keras_kd.losses.get` takes.
        weight: a number or a schedule, 0 or more.
        examples: a weight per example besides: `"confidence"`, `"entropy"` or `"correctness"` of the teacher (the
            functions of these names with `_weights` behind), or a function `(teacher_logits, labels) -> [batch]`.

    >>> from keras_kd.losses import SoftTargets
    >>> Weighted(SoftTargets(), 0.5).name
    'soft_targets'
    """

    def __init__(self, loss: Any, weight: Any = 1.0, *, examples: str | Callable[[Any, Any], Any] | None = None):
        loss = get(loss)
        self.several_taps = loss.several_taps
        super().__init__(teacher=loss.teacher, student=loss.student, name=loss.name)
        self.loss = loss
        self._weight = Hyperparameter("weight", weight, at_least=0.0)
        if examples is not None and not callable(examples):
            check_choice("examples", examples, EXAMPLE_WEIGHTS)
        self.examples = examples

    @property
    def weight(self):
        """The number or schedule by which the loss is multiplied."""
        return self._weight.value

    @weight.setter
    def weight(self, value):
        self._weight.set(value)

    @property
    def projection(self):
        return self.loss.projection

    @property
    def leaves_out_padding(self):
        return self.loss.leaves_out_padding

    def build(self, teacher_shape, student_shape):
        if not self.loss.built:
            self.loss.build(teacher_shape, student_shape)

    def __call__(self, teacher, student, *, sample_weight=None, context=None):
        teacher, student = self._prepare(teacher, student)
        context = context or Context()
        if self.examples is not None:
            sample_weight = self._example_weights(teacher, sample_weight, context)
        value = self.loss(teacher, student, sample_weight=sample_weight, context=context)
        return self._weight.at(context.step) * value

    def validate_outputs(self, teacher_outputs, student_outputs):
        self.loss.validate_outputs(teacher_outputs, student_outputs)

    def get_config(self):
        examples = (
            self.examples if self.examples is None or isinstance(self.examples, str) else serialize(self.examples)
        )
        return {"loss": serialize(self.loss), "weight": self._weight.get_config(), "examples": examples}

    @classmethod
    def from_config(cls, config):
        return cls(**{key: deserialize(value) for key, value in config.items()})

    def _example_weights(self, teacher: Any, sample_weight: Any, context: Context) -> Any:
        logits = context.teacher_logits
        if logits is None and self.teacher is None and not self.several_taps:
            logits = teacher  # used alone: what it compares are the logits
        needs_labels = self.examples == "correctness"
        if logits is None or (needs_labels and context.labels is None):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} weighs examples by the teacher's {self.examples!r}, not known here.",
                    received="no logits of the teacher" if logits is None else "a batch without labels",
                    expected="labels in the batch" if logits is not None else "a teacher with one output",
                )
            )
        function = self.examples if callable(self.examples) else EXAMPLE_WEIGHTS[self.examples]
        weights = ops.stop_gradient(function(logits, context.labels))
        if sample_weight is None:
            return weights
        sample_weight = ops.cast(sample_weight, weights.dtype)
        extra = len(weights.shape) - len(sample_weight.shape)
        return weights * ops.reshape(sample_weight, (*ops.shape(sample_weight), *[1] * extra))


def get(identifier: Any) -> DistillationLoss:
    """A loss from a loss, a name, a mapping, one of Keras' losses or distillation losses, or a function.

    A mapping has `name` and the settings of that loss; `weight` (a number or a schedule) and `examples` in it make the
    loss a `Weighted` one: `{name: hint, teacher: stage_3, student: stage_2, weight: 100}`.

    Raises:
        ConfigurationError: none of these, or a loss of Keras that takes probabilities or labels, not logits.
    """
    if isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, keras.distillation.DistillationLoss):
        return KerasDistillationLoss(identifier)
    if isinstance(identifier, keras.losses.Loss):
        return KerasLoss(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return FunctionLoss(identifier)
    _check_not_keras_own(identifier)
    if isinstance(identifier, Mapping) and identifier.get("name") != "weighted":
        weighting = {key: identifier[key] for key in ("weight", "examples") if key in identifier}
        if weighting:
            inner = {key: value for key, value in identifier.items() if key not in weighting}
            return Weighted(registry.get(inner), **weighting)
    return registry.get(identifier)


def _check_not_keras_own(identifier: Any) -> None:
    """Raises `ConfigurationError` for the name, or the class, of one of Keras' losses."""
    name = identifier.get("name") if isinstance(identifier, Mapping) else identifier
    if isinstance(name, type) and issubclass(name, (keras.losses.Loss, keras.distillation.DistillationLoss)):
        raise ConfigurationError(
            explain("This is the class of a loss.", received=name.__name__, expected=f"an object: {name.__name__}(...)")
        )
    theirs = keras_loss_named(name) if isinstance(name, str) and name not in registry.names else None
    if theirs is not None:
        check_compares_raw_outputs(theirs)
        raise ConfigurationError(
            explain(
                f"{name!r} is one of Keras' losses, not of this package.",
                received=repr(name),
                expected=f"one of {', '.join(registry.names)}",
                fix=f"In Python pass it as it is: losses=[keras.losses.get({name!r})].",
            )
        )
