"""A virtual teacher made from the labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, TeacherError, check_integer, check_number, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import register
from keras_kd.teachers.base import Batch, Teacher


def virtual_logits(labels: Any, num_classes: int, correct: float, temperature: float) -> Any:
    """The logits of a virtual teacher: `p / temperature`, with `p = correct` for the label's class.

    The other classes share `1 - correct`. As in the published code, the probabilities `p` themselves, not their
    logarithms, are divided by the temperature and enter the softmax; the targets are nearly uniform at 20.

    Source: Yuan, Tay, Li, Wang & Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization", 2020,
    section 5.

    Args:
        labels: class numbers `[batch]`, or probabilities `[batch, num_classes]`.
        num_classes: at least 2.
        correct: the probability of the label's class.
        temperature: above 0.

    Returns:
        `[batch, num_classes]`.

    >>> [round(float(x), 3) for x in virtual_logits(ops.array([1]), 3, 0.9, 2.0)[0]]
    [0.025, 0.45, 0.025]
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) < 2 or labels.shape[-1] == 1 != num_classes:
        labels = ops.one_hot(ops.cast(ops.reshape(labels, (-1,)), "int32"), num_classes)
    others = (1.0 - correct) / (num_classes - 1)
    return (others + (correct - others) * ops.cast(labels, "float32")) / temperature


@register
class SmoothedLabels(Teacher):
    """A virtual teacher that is right with a fixed probability and has no opinion on the other classes (Tf-KD).

    Train with a distiller's temperature of 1: the targets have a temperature of their own. See `virtual_logits`.

    Args:
        num_classes: at least 2.
        correct: the probability of the label's class, 0.9 or more in the paper.
        temperature: of the targets.

    Raises:
        ConfigurationError: a setting out of range.
        TeacherError: a batch without labels.
    """

    reads_labels = needs_labels = True

    def __init__(self, num_classes: int, *, correct: float = 0.99, temperature: float = 20.0):
        self.num_classes = check_integer("num_classes", num_classes, at_least=2)
        self.correct = check_number("correct", correct, at_least=0.0, at_most=1.0)
        self.temperature = check_number("temperature", temperature, at_least=1e-3)
        if self.correct <= 1.0 / self.num_classes:
            raise ConfigurationError(
                explain(
                    "The virtual teacher would be right no more often than by chance.",
                    received=f"correct={correct} with {num_classes} classes",
                    expected=f"above {1 / self.num_classes:g}; 0.9 or more in the paper",
                )
            )

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        if batch.y is None:
            raise TeacherError(
                explain(
                    "The virtual teacher is made from labels, and the batch has none.",
                    received="a batch (x,)",
                    expected="(x, y)",
                )
            )
        labels = next(iter(batch.y.values())) if isinstance(batch.y, dict) else batch.y
        return ModelOutputs({"output": virtual_logits(labels, self.num_classes, self.correct, self.temperature)})

    @property
    def fingerprint(self) -> str:
        return f"smoothed labels {self.get_config()}"

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {"output": (None, self.num_classes)}

    @property
    def activations(self) -> dict[str, str]:
        return {"output": "linear"}

    @property
    def only_of_classes(self) -> str:
        return "Use a teacher whose targets are numbers."

    def get_config(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "correct": self.correct, "temperature": self.temperature}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SmoothedLabels:
        return cls(**config)
