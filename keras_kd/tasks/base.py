"""What kind of problem a model solves: one small class per task, registered by name."""

from __future__ import annotations

import abc
import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import Registry, snake_case
from keras_kd.tasks.measures import Measure

registry = Registry("task")


@dataclass(frozen=True)
class Inputs:
    """What is known of the inputs before they are read: the shape `[n, ...]` and the dtype in which they are stored."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def are_token_ids(self) -> bool:
        """Whether these are sequences of whole numbers, `[n, t]`; uint8 is the dtype of pixels."""
        return self.dtype.kind in "iu" and self.dtype != np.uint8 and len(self.shape) == 2


@dataclass(frozen=True)
class Scores:
    """The quality of predictions on one set of examples.

    Attributes:
        values: the measures of the task by name, NaN where the examples do not define one.
        agreement: the share of decisions, 0 to 1, on which the reference decides alike; None without one, and for
            numbers, which hardly ever agree.
        confusion: counts `[true class, predicted class]`, integers `[C, C]`; None where classes do not exclude each
            other.
        num_examples: the number of examples.
    """

    values: dict[str, float]
    agreement: float | None
    confusion: np.ndarray | None = dataclasses.field(compare=False)
    num_examples: int

    def __getitem__(self, name: str) -> float:
        return self.values[name]


@dataclass(frozen=True)
class Task(abc.ABC):
    """Base of all tasks. To add one, write a subclass and put `@registry.register` on top.

    Attributes:
        measures: what a report shows, the headline first.
        activations: the last activations that fit, as `keras_kd.features.Head` names them.
        has_classes: whether an output is one of several classes that exclude each other: then there is a confusion
            matrix, and a diagnosis of the teacher.
        has_positions: whether each example has a label for each of its positions.
        unlabeled_in_files: whether labels may be missing in a data file.
        unit: the plural noun for the examples, or None where the inputs decide ("images", "sentences", "examples").
        position_unit: the plural noun for what is labeled within an example, or None.
        curve: the metric, next to the loss, that a report draws by epoch.
    """

    measures: ClassVar[tuple[Measure, ...]]
    activations: ClassVar[tuple[str, ...]] = ("linear", "softmax")
    has_classes: ClassVar[bool] = False
    has_positions: ClassVar[bool] = False
    unlabeled_in_files: ClassVar[bool] = True
    unit: ClassVar[str | None] = None
    position_unit: ClassVar[str | None] = None
    curve: ClassVar[str] = "accuracy"

    @property
    def name(self) -> str:
        """The name in recipes, such as `"multi_label"`."""
        return snake_case(type(self).__name__)

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def headline(self) -> Measure:
        """The first measure: the one that the summary of a report compares."""
        return self.measures[0]

    # Labels.

    @classmethod
    @abc.abstractmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        """Why arrays can be of this task, such as `"one class number per image"`; None where they cannot."""

    @abc.abstractmethod
    def read(self, labels: Any, *, what: str = "y", num_outputs: int | None = None) -> np.ndarray:
        """The labels in the form that this package works with, a missing one marked.

        Args:
            labels: in any of the forms that the task knows, `[n, ...]`.
            what: the name of the labels in errors.
            num_outputs: of the model, where known.

        Raises:
            ConfigurationError: labels that are not of this task.
        """

    @abc.abstractmethod
    def has_label(self, labels: np.ndarray) -> np.ndarray:
        """Bool `[n]`: whether an example has any label; `labels` as `read` returns them."""

    @abc.abstractmethod
    def unlabeled(self, labels: np.ndarray) -> np.ndarray:
        """An array like `labels` in which every label is missing."""

    @abc.abstractmethod
    def num_outputs(self, labels: np.ndarray) -> int:
        """The size of the last axis of a model's output that these labels ask for."""

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Int64 `[n]`: the groups that splits and samples keep the shares of; one group unless a task has better."""
        return np.zeros(len(labels), np.int64)

    def mixed(self, labels: np.ndarray, partners: np.ndarray, share: np.ndarray, num_outputs: int) -> np.ndarray:
        """The labels of mixed examples, `share * label + (1 - share) * partner`.

        Args:
            labels, partners: as `read` returns them, `[b, ...]`.
            share: float32 `[b]`.
            num_outputs: as `num_outputs` returns it for the whole data set.

        Raises:
            ConfigurationError: a task whose labels cannot be mixed.
        """
        raise ConfigurationError(
            explain(
                f"Examples of {self.name} cannot be mixed: their labels have no mixture.",
                received="an augmentation that mixes two examples",
                expected="one that changes a single example",
                fix="Leave mixup and cutmix out.",
            )
        )

    # Training.

    @abc.abstractmethod
    def loss(self, *, from_logits: bool, mixed: bool = False) -> Any:
        """The supervised loss, a `keras.losses.Loss` that leaves missing labels out.

        Args:
            from_logits: whether the model's outputs are logits.
            mixed: whether the labels are what `mixed` returns.
        """

    @abc.abstractmethod
    def metrics(self, *, from_logits: bool) -> list[Any]:
        """What `compile` takes as metrics; the one named `curve` is drawn in reports."""

    def loss_of_guessing(self, num_outputs: int) -> float | None:
        """The loss of a model that has learned nothing; None where it depends on the targets."""
        return None

    # The model.

    def output_shape(self, label_shape: tuple[int, ...], num_outputs: int) -> tuple[int | None, ...]:
        """The shape that a model's output has to have, `[batch, ...]`.

        Args:
            label_shape: of the labels as `read` returns them, without the axis of the examples.
            num_outputs: as `num_outputs` returns it.
        """
        return (None, *(label_shape if self.has_positions else ()), num_outputs)

    def check_output(
        self,
        shape: tuple[int | None, ...],
        activation: str | None,
        label_shape: tuple[int, ...],
        num_outputs: int,
        *,
        role: str = "model",
    ) -> None:
        """Raises `ConfigurationError` where a model's outputs do not fit the task and its labels.

        Args:
            shape: of the output, `[batch, ...]`; None for a size that is not fixed.
            activation: of the last layer: `"linear"`, `"softmax"`, `"sigmoid"`; None where it is not known.
            label_shape, num_outputs: see `output_shape`.
            role: the name of the model in the error, such as `"student"`.
        """
        wanted = self.output_shape(label_shape, num_outputs)
        fits = len(shape) == len(wanted) and all(
            one is None or other is None or one == other for one, other in zip(shape, wanted, strict=True)
        )
        if not fits or shape[-1] != num_outputs:
            raise ConfigurationError(
                explain(
                    f"The {role}'s outputs do not fit the task {self.name!r}.",
                    received=f"shape {tuple(shape)}",
                    expected=f"shape {wanted}",
                )
            )
        if activation is not None and activation not in self.activations:
            raise ConfigurationError(
                explain(
                    f"The last activation of the {role} does not fit the task {self.name!r}.",
                    received=activation,
                    expected=" or ".join(self.activations),
                )
            )

    # Measures.

    @abc.abstractmethod
    def scored(self, outputs: Any, labels: Any, *, from_logits: bool | None = None) -> tuple[np.ndarray, ...]:
        """What the measures are computed from: decisions or numbers, and the labels, missing ones left out or marked.

        Args:
            outputs: of a model, `[n, ...]`.
            labels: in any form that `read` knows.
            from_logits: whether outputs are logits; needed where a threshold decides.

        Raises:
            ConfigurationError: outputs that do not fit the labels, NaN, or no examples.
        """

    def decisions(self, outputs: Any, *, from_logits: bool | None = None) -> np.ndarray | None:
        """What is compared when two models are compared with each other; None for numbers."""
        return None

    def measure(self, outputs: Any, labels: Any, reference: Any = None, *, from_logits: bool | None = None) -> Scores:
        """All measures of a model's outputs, and the agreement with those of a reference model.

        Args:
            outputs: `[n, ...]`.
            labels: in any form that `read` knows.
            reference: the outputs of another model on the same examples, in the same form.
            from_logits: whether outputs are logits; needed where a threshold decides.

        Raises:
            ConfigurationError: see `scored`.
        """
        scored = self.scored(outputs, labels, from_logits=from_logits)
        return Scores(
            values={measure.name: measure.compute(*scored) for measure in self.measures},
            agreement=None if reference is None else self.agreement(outputs, reference, from_logits=from_logits),
            confusion=self.confusion(outputs, scored),
            num_examples=len(outputs),
        )

    def confusion(self, outputs: Any, scored: tuple[np.ndarray, ...]) -> np.ndarray | None:
        """The confusion matrix, where there is one."""
        return None

    def agreement(self, outputs: Any, others: Any, *, from_logits: bool | None = None) -> float | None:
        """The share of decisions, 0 to 1, that two models have in common, right or wrong; None for numbers.

        Raises:
            ConfigurationError: outputs of different shapes.
        """
        one, other = (self.decisions(values, from_logits=from_logits) for values in (outputs, others))
        if one is None or other is None:
            return None
        if one.shape != other.shape:
            raise not_comparable(np.shape(outputs), np.shape(others))
        return float(np.mean(one == other))

    # Words.

    def words(self, inputs: Inputs) -> str:
        """The plural noun for the examples: `"images"`, `"sentences"` or `"examples"`."""
        if self.unit is not None:
            return self.unit
        if inputs.are_token_ids:
            return "sentences"
        return "images" if len(inputs.shape) == 4 else "examples"


def not_comparable(shape: tuple[int, ...], other: tuple[int, ...]) -> ConfigurationError:
    """The error for predictions of two models that are not about the same."""
    return ConfigurationError(
        explain(
            "These predictions cannot be compared.",
            received=f"shapes {shape} and {other}",
            expected="the same examples and classes",
        )
    )


def get(identifier: Any) -> Task:
    """A task from its name, from a mapping with `name` and settings, or the task itself.

    >>> get("regression").headline.name
    'root_mean_squared_error'
    """
    return registry.get(identifier)


def names() -> list[str]:
    """The names of all tasks."""
    return registry.names
