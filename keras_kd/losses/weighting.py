"""A weight around any loss: a number, a schedule, and one per example by how far the teacher is to be trusted there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.base import Context, DistillationLoss, registry
from keras_kd.losses.numerics import class_indices, upcast
from keras_kd.serialization import deserialize, serialize


def confidence_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """The probability that the teacher gives to its own answer.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: not read.

    Returns:
        `[...]`, from 1 / classes to 1.
    """
    return ops.max(_probabilities(teacher_logits), axis=-1)


def entropy_weights(teacher_logits: Any, labels: Any = None) -> Any:
    """1 minus the entropy of the teacher's answer over the largest one: 0 where it knows nothing, 1 where it is sure.

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: not read.

    Returns:
        `[...]`, from 0 to 1.
    """
    probabilities = _probabilities(teacher_logits)
    entropy = -ops.sum(probabilities * ops.log(ops.maximum(probabilities, 1e-30)), axis=-1)
    return ops.maximum(1.0 - entropy / math.log(probabilities.shape[-1]), 0.0)


def correctness_weights(teacher_logits: Any, labels: Any) -> Any:
    """1 where the teacher's answer is the label, 0 where it is not; 1 for a row without a label (-1).

    Args:
        teacher_logits: `[..., classes]`, or `[..., 1]` for two classes by a sigmoid.
        labels: `[...]` or `[..., 1]` class numbers, or `[..., classes]` one-hot.

    Returns:
        `[...]`.
    """
    probabilities = _probabilities(teacher_logits)
    labels = class_indices(labels, len(teacher_logits.shape) - 1)
    is_right = ops.equal(ops.cast(ops.argmax(probabilities, axis=-1), labels.dtype), labels)
    return ops.cast(ops.logical_or(is_right, labels < 0), probabilities.dtype)


EXAMPLE_WEIGHTS: dict[str, Callable[[Any, Any], Any]] = {
    "confidence": confidence_weights,
    "entropy": entropy_weights,
    "correctness": correctness_weights,
}


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
        from keras_kd.losses.adapters import get  # it knows this class too

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


def _probabilities(teacher_logits: Any) -> Any:
    (logits,) = upcast(teacher_logits)
    if logits.shape[-1] == 1:
        return ops.concatenate([ops.sigmoid(-logits), ops.sigmoid(logits)], axis=-1)
    return ops.softmax(logits, axis=-1)
