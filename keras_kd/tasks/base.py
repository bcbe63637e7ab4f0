"""The kind of problem that a model solves: one small class per task, registered by name."""

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
    """The shape `[n, ...]` and the dtype of the stored inputs, known before they are read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def are_token_ids(self) -> bool:
        """Whether these are sequences of integers, `[n, t]`; uint8 is the dtype of pixels."""
        return self.dtype.kind in "iu" and self.dtype != np.uint8 and len(self.shape) == 2


@dataclass(frozen=True)
class Scores:
    """The quality of predictions on one set of examples.

    Attributes:
        values: the measures of the task by name, NaN where the examples do not define one.
        agreement: the share of decisions, 0 to 1, that equal those of the reference; None without a reference, and for
            numbers, which are rarely equal.
        confusion: counts `[true class, predicted class]`, integers `[C, C]`; None if classes are not exclusive.
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
        measures: the measures that a report shows, the headline first.
        activations: the valid last activations, as `keras_kd.features.Head` names them.
        has_classes: whether the classes are exclusive, as a confusion matrix and the teacher's diagnosis require.
        has_positions: whether each example has a label for each of its positions.
        unlabeled_in_files: whether labels may be missing in a data file.
        unit: the plural noun for the examples; None if it depends on the inputs ("images", "sentences", "examples").
        position_unit: the plural noun for the labeled parts of an example, or None.
        curve: the metric that a report draws by epoch, next to the loss.
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
        """The first measure, which the summary of a report compares."""
        return self.measures[0]

    # Labels.

    @classmethod
    @abc.abstractmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        """Why arrays fit this task, such as `"one class number per image"`; None if they do not."""

    @abc.abstractmethod
    def read(self, labels: Any, *, what: str = "y", num_outputs: int | None = None) -> np.ndarray:
        """Checks labels and converts them to the form used in this package, in which missing ones are marked.

        Args:
            labels: in any of the forms that the task accepts, `[n, ...]`.
            what: the name of the labels in errors.
            num_outputs: of the model, if known.

        Raises:
            ConfigurationError: labels of another form, or values out of range.
        """

    @abc.abstractmethod
    def has_label(self, labels: np.ndarray) -> np.ndarray:
        """Bool `[n]`: whether an example has any label; `labels` as `read` returns them."""

    @abc.abstractmethod
    def unlabeled(self, labels: np.ndarray) -> np.ndarray:
        """An array of the same shape and dtype in which every label is missing."""

    @abc.abstractmethod
    def num_outputs(self, labels: np.ndarray) -> int:
        """The size of the last axis of a model's output that these labels require."""

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Int64 `[n]`: the groups whose shares splits and samples keep; a single group by default."""
        return np.zeros(len(labels), np.int64)

    def mixed(self, labels: np.ndarray, partners: np.ndarray, share: np.ndarray, num_outputs: int) -> np.ndarray:
        """The labels of mixed examples, `share * label + (1 - share) * partner`.

        Args:
            labels, partners: as `read` returns them, `[b, ...]`.
            share: float32 `[b]`.
            num_outputs: as `num_outputs` returns it for the whole data set.

        Raises:
            ConfigurationError: the labels of this task cannot be mixed.
        """
        raise ConfigurationError(
            explain(
                f"Labels of the task {self.name!r} cannot be averaged.",
                received="an augmentation that mixes two examples",
                expected="an augmentation of single examples",
                fix="Remove mixup and cut_mix.",
            )
        )

    # Training.

    @abc.abstractmethod
    def loss(self, *, from_logits: bool, mixed: bool = False) -> Any:
        """The supervised loss, a `keras.losses.Loss` that ignores missing labels.

        Args:
            from_logits: whether the model's outputs are logits.
            mixed: whether the labels are mixed, see `mixed`.
        """

    @abc.abstractmethod
    def metrics(self, *, from_logits: bool) -> list[Any]:
        """The metrics for `compile`; the one named `curve` is drawn in reports."""

    def loss_of_guessing(self, num_outputs: int) -> float | None:
        """The loss of an untrained model; None if it depends on the targets."""
        return None

    # The model.

    def output_shape(self, label_shape: tuple[int, ...], num_outputs: int) -> tuple[int | None, ...]:
        """The required shape of a model's output, `[batch, ...]`.

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
        """Raises `ConfigurationError` if a model's outputs do not fit the task and its labels.

        Args:
            shape: of the output, `[batch, ...]`; None for a variable size.
            activation: of the last layer: `"linear"`, `"softmax"`, `"sigmoid"`; None if unknown.
            label_shape, num_outputs: see `output_shape`.
            role: the name of the model in the error, such as `"student"`.
        """
        wanted = self.output_shape(label_shape, num_outputs)
        fits = len(shape) == len(wanted) and all(
            one is None or other is None or one == other for one, other in zip(shape, wanted, strict=True)
        )
        if not fits or shape[-1] != num_outputs:
            has_other_head = len(shape) == len(wanted) and shape[-1] != num_outputs
            raise ConfigurationError(
                explain(
                    f"The {role}'s outputs do not fit the task {self.name!r}.",
                    received=f"shape {tuple(shape)}",
                    expected=f"shape {wanted}",
                    fix="With `replace_head: true`, a trained .keras file gets a new head." if has_other_head else None,
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
        """The inputs of the measures: decisions or numbers, and the labels, without missing ones or with these marked.

        Args:
            outputs: of a model, `[n, ...]`.
            labels: in any form that `read` accepts.
            from_logits: whether outputs are logits; required by tasks that decide by a threshold.

        Raises:
            ConfigurationError: outputs that do not fit the labels, NaN, or no examples.
        """

    def decisions(self, outputs: Any, *, from_logits: bool | None = None) -> np.ndarray | None:
        """The decisions in which two models are compared; None for numbers."""
        return None

    def measure(self, outputs: Any, labels: Any, reference: Any = None, *, from_logits: bool | None = None) -> Scores:
        """All measures of a model's outputs, and the agreement with those of a reference model.

        Args:
            outputs: `[n, ...]`.
            labels: in any form that `read` accepts.
            reference: the outputs of another model on the same examples, in the same form.
            from_logits: whether outputs are logits; required by tasks that decide by a threshold.

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
        """The confusion matrix; None if the classes are not exclusive."""
        return None

    def agreement(self, outputs: Any, others: Any, *, from_logits: bool | None = None) -> float | None:
        """The share of decisions, 0 to 1, in which two models agree, right or wrong; None for numbers.

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
    """The error for predictions of two models for different examples or classes."""
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
