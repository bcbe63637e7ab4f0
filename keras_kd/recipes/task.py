"""The task of a recipe together with its data: what a run asks of it, in one place."""

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
    """A task and the data that it is about.

    Attributes:
        source: the opened data, whose labels have the task.
    """

    source: data.DataSource

    @property
    def kind(self) -> tasks.Task:
        """The task itself."""
        return self.source.task

    @property
    def is_classification(self) -> bool:
        """Whether an example has one class."""
        return isinstance(self.kind, tasks.Classification)

    def found(self) -> str | None:
        """What a user is told of a task that was found in the data; None where it was named."""
        found = self.source.found
        return found and f"data.task: {self.kind.name}, found in the labels ({found})."

    def loss(self, model: keras.Model, *, mixed: bool) -> keras.losses.Loss:
        """The loss on the labels; `mixed` ones are those of two examples."""
        return self.kind.loss(from_logits=gives_logits(model), mixed=mixed)

    def metrics(self, model: keras.Model) -> list[Any]:
        """The metrics of a training, as `compile` takes them."""
        return self.kind.metrics(from_logits=gives_logits(model))

    def one_hot(self, *, mixed: bool) -> int | None:
        """The classes of one-hot validation labels, for a loss on mixed ones; None for labels as they are."""
        return self.source.num_classes if mixed and self.is_classification else None

    def history(self, history: dict[str, list[float]], labels: np.ndarray) -> dict[str, list[float]]:
        """A history without the training accuracy if labels are missing and Keras' metric counts those as mistakes."""
        is_wrong = self.is_classification and not self.kind.has_label(labels).all()
        return {name: values for name, values in history.items() if not (is_wrong and name == "accuracy")}

    def check_outputs(
        self, shapes: dict[str, tuple[int | None, ...]], role: str, activations: dict[str, str] | None = None
    ) -> None:
        """Raises `ConfigurationError` if the outputs of a model or teacher do not fit the data.

        Args:
            shapes: by output name.
            role: the name of the model in the error.
            activations: the last ones, by output name, as far as known.
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
    """Whether a model ends in logits, or in numbers, rather than in probabilities."""
    return all(head.is_logits for head in find_heads(model).values())
