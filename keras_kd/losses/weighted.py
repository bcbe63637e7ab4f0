"""Weights for any loss, and `get`, which converts names, mappings and Keras losses to distillation losses."""

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
from keras_kd.losses.wrapper import LossWrapper
from keras_kd.serialization import deserialize, serialize


@registry.register
class Weighted(LossWrapper):
    """A loss multiplied by a weight, optionally with a weight per example.

    Args:
        loss: a loss, or anything that `keras_kd.losses.get` accepts.
        weight: a number or a schedule, at least 0.
        examples: an additional weight per example from the teacher: `"confidence"`, `"entropy"` or `"correctness"` (see
            `confidence_weights`, `entropy_weights`, `correctness_weights`), or a function
            `(teacher_logits, labels) -> [batch]`.

    >>> from keras_kd.losses import SoftTargets
    >>> Weighted(SoftTargets(), 0.5).name
    'soft_targets'
    """

    def __init__(self, loss: Any, weight: Any = 1.0, *, examples: str | Callable[[Any, Any], Any] | None = None):
        super().__init__(get(loss))
        self._weight = Hyperparameter("weight", weight, at_least=0.0)
        if examples is not None and not callable(examples):
            check_choice("examples", examples, EXAMPLE_WEIGHTS)
        self.examples = examples

    @property
    def weight(self):
        """The number or schedule that multiplies the loss."""
        return self._weight.value

    @weight.setter
    def weight(self, value):
        self._weight.set(value)

    def per_example(self, teacher, student, *, sample_weight=None, context=None):
        teacher, student = self._prepare(teacher, student)
        context = context or Context()
        if self.examples is not None:
            sample_weight = self._example_weights(teacher, sample_weight, context)
        losses = self.loss.per_example(teacher, student, sample_weight=sample_weight, context=context)
        return losses.scaled(self._weight.at(context.step))

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
            logits = teacher  # without a distiller, the compared tensors are the logits
        needs_labels = self.examples == "correctness"
        if logits is None or (needs_labels and context.labels is None):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} cannot weight examples by the teacher's {self.examples!r}.",
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
    """Converts a loss, a name, a mapping, a Keras loss or distillation loss, or a function to a `DistillationLoss`.

    A mapping contains `name` and the settings of that loss. With `weight` (a number or a schedule) or `examples`, the
    loss is wrapped in `Weighted`: `{name: hint, teacher: stage_3, student: stage_2, weight: 100}`.

    Raises:
        ConfigurationError: for anything else, and for a Keras loss that takes probabilities or labels instead of
            logits.
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
    """Raises `ConfigurationError` for the class of a loss, and for the name of a Keras loss."""
    name = identifier.get("name") if isinstance(identifier, Mapping) else identifier
    if isinstance(name, type) and issubclass(name, (keras.losses.Loss, keras.distillation.DistillationLoss)):
        raise ConfigurationError(
            explain(
                "Expected a loss, not its class.", received=name.__name__, expected=f"an instance: {name.__name__}(...)"
            )
        )
    theirs = keras_loss_named(name) if isinstance(name, str) and name not in registry.names else None
    if theirs is not None:
        check_compares_raw_outputs(theirs)
        raise ConfigurationError(
            explain(
                f"{name!r} is a Keras loss, not a loss of this package.",
                received=repr(name),
                expected=f"one of {', '.join(registry.names)}",
                fix=f"In Python, pass the Keras loss itself: losses=[keras.losses.get({name!r})].",
            )
        )
