"""The task of a recipe combined with its data."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_kd import data, tasks
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_heads


@dataclasses.dataclass(frozen=True)
class RecipeTask:
    """The task of the data of a recipe.

    Attributes:
        source: the opened data, which determine the task.
    """

    source: data.DataSource

    @property
    def kind(self) -> tasks.Task:
        """The task itself."""
        return self.source.task

    @property
    def is_classification(self) -> bool:
        """Whether each example has one class."""
        return isinstance(self.kind, tasks.Classification)

    def found(self) -> str | None:
        """The message about a task that was inferred from the data; None if the recipe names the task."""
        found = self.source.found
        return found and f"data.task: {self.kind.name}, inferred from the labels ({found})."

    def loss(self, model: keras.Model, *, mixed: bool) -> keras.losses.Loss:
        """The loss on the labels; `mixed` labels combine those of two examples."""
        return self.kind.loss(from_logits=gives_logits(model), mixed=mixed)

    def metrics(self, model: keras.Model) -> list[Any]:
        """The metrics of a training, as `compile` takes them."""
        return self.kind.metrics(from_logits=gives_logits(model))

    def one_hot(self, *, mixed: bool) -> int | None:
        """The number of classes for one-hot validation labels, for a loss on mixed ones; None to keep the labels."""
        return self.source.num_classes if mixed and self.is_classification else None

    def history(self, history: dict[str, list[float]], labels: np.ndarray) -> dict[str, list[float]]:
        """The history, without training accuracy if missing labels would count as mistakes in Keras' metric."""
        is_wrong = self.is_classification and not self.kind.has_label(labels).all()
        return {name: values for name, values in history.items() if not (is_wrong and name == "accuracy")}

    def check_outputs(
        self, shapes: dict[str, tuple[int | None, ...]], role: str, activations: dict[str, str] | None = None
    ) -> None:
        """Raises `ConfigurationError` if the outputs of a model or teacher do not fit the data.

        Args:
            shapes: by output name.
            role: the name of the model in the error.
            activations: the final activations, by output name; those that are known.
        """
        wanted = self.kind.output_shape(self.source.label_shape, self.source.num_classes)
        if len(shapes) != 1:
            raise ConfigurationError(
                explain(
                    f"The {role}'s outputs do not fit the data.",
                    received=f"{shapes}",
                    expected=f"one output of shape {wanted}, as {self.source.name!r} has",
                )
            )
        (shape,) = shapes.values()
        activation = next(iter((activations or {}).values()), None)
        label_shape, num_outputs = self.source.label_shape, self.source.num_classes
        self.kind.check_output(shape, activation, label_shape, num_outputs, role=role)

    def measure(
        self, outputs: Any, labels: Any, reference: Any = None, *, from_logits: bool | None = None
    ) -> tasks.Scores:
        """The measures of the report."""
        return self.kind.measure(outputs, labels, reference, from_logits=from_logits)


def gives_logits(model: keras.Model) -> bool:
    """Whether a model outputs logits or real values rather than probabilities."""
    return all(head.is_logits for head in find_heads(model).values())
