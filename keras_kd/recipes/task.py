"""The kind of problem of a recipe: single-label classification.

The one place that decides the loss, the metrics, what the outputs must look like, how a missing label is marked and
which measures are taken.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_kd import data, evaluation
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_heads
from keras_kd.tasks import Scores


@dataclasses.dataclass(frozen=True)
class Classification:
    """One class per example.

    Attributes:
        num_classes: of the data.
        unlabeled: the label of an example without one.
        examples: what the examples are called in messages.
    """

    num_classes: int
    unlabeled: int = data.UNLABELLED
    examples: str = "images"

    def loss(self, model: keras.Model, *, mixed: bool) -> keras.losses.Loss:
        """The loss on the labels; `mixed` labels are shares of classes, none at all a row of zeros."""
        from_logits = all(head.is_logits for head in find_heads(model).values())
        if mixed:
            return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, ignore_class=self.unlabeled)

    def metrics(self) -> list[Any]:
        """The metrics of a training, as `compile` takes them."""
        return ["accuracy"]

    def one_hot(self, *, mixed: bool) -> int | None:
        """The classes of one-hot validation labels, for a loss on mixed ones; None for class numbers."""
        return self.num_classes if mixed else None

    def history(self, history: dict[str, list[float]], labels: np.ndarray) -> dict[str, list[float]]:
        """A history without the training accuracy if labels are missing: it would count those as mistakes."""
        is_partial = bool(np.any(labels == self.unlabeled))
        return {name: values for name, values in history.items() if not (is_partial and name == "accuracy")}

    def check_outputs(self, shapes: dict[str, tuple[int | None, ...]], role: str, data_name: str) -> None:
        """Raises `ConfigurationError` if the outputs of a model or teacher do not fit the data."""
        if [tuple(shape) for shape in shapes.values()] != [(None, self.num_classes)]:
            raise ConfigurationError(
                explain(
                    f"The {role}'s outputs do not fit the data.",
                    received=f"{shapes}",
                    expected=f"one output of {self.num_classes} classes, as {data_name!r} has",
                )
            )

    def measure(self, outputs: Any, labels: Any, reference: Any = None) -> Scores:
        """The measures of the report, of outputs `[examples, classes]`."""
        return evaluation.measure(outputs, labels, reference=reference)
