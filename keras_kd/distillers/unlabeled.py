"""Finds examples without a label, for which alpha is 1, as the compiled loss declares them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from keras_kd.distillers.supervision import losses_by_output
from keras_kd.losses import DistillationLoss
from keras_kd.serialization import snake_case
from keras_kd.tasks import UNLABELED, tensors
from keras_kd.tasks import losses as task_losses

_OF_SOFT_LABELS = {"categorical_crossentropy", "categorical_focal_crossentropy"}


@dataclasses.dataclass(frozen=True)
class Declaration:
    """How the labels of one output mark a missing label.

    Attributes:
        ignore_class: the class number that marks it; None if the mark is a row of zeros in place of probabilities.
    """

    ignore_class: int | None

    def has_label(self, labels: Any) -> Any:
        """Bool `[batch, ...]`, from class numbers `[batch, ...(, 1)]` or probabilities `[batch, ..., classes]`."""
        return tensors.has_label(labels, self.ignore_class)

    def with_minus_one(self, labels: Any) -> Any:
        """The labels with -1 for missing ones, the convention of this package's losses."""
        if self.ignore_class in (None, UNLABELED):
            return labels
        is_missing = ops.equal(ops.cast(labels, "float32"), float(self.ignore_class))
        return ops.where(is_missing, UNLABELED, ops.cast(labels, "int32"))


@dataclasses.dataclass(frozen=True)
class PartlyKnown(Declaration):
    """Labels that are marked one by one: a row has no label if none of its labels is known."""

    is_known: Callable[[Any], Any]

    def has_label(self, labels: Any) -> Any:
        """Bool `[batch, ...]`, from labels `[batch, ..., outputs]`."""
        return ops.any(self.is_known(labels), axis=-1)


def declared_by(loss: Any) -> Declaration | None:
    """How a compiled loss marks missing labels: by `ignore_class`, or by zeros in a cross-entropy with soft labels.

    >>> declared_by(keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    Declaration(ignore_class=-1)
    >>> declared_by("categorical_crossentropy")
    Declaration(ignore_class=None)
    >>> declared_by("mse") is None
    True
    """
    if isinstance(loss, (task_losses.BinaryCrossentropy, task_losses.MeanSquaredError)):
        return PartlyKnown(None, loss.is_known)
    if isinstance(loss, keras.losses.Loss):
        ignore_class = getattr(loss, "ignore_class", None)
        if ignore_class is not None:
            return Declaration(ignore_class)
        name = type(loss).__name__ if type(loss).__module__.startswith("keras.") else ""
    else:
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    return Declaration(None) if snake_case(name) in _OF_SOFT_LABELS else None


class LabelDeclarations:
    """How the compiled losses declare missing labels, by output; read once, in `compile`.

    Args:
        loss: as given to `compile`.
        names: of the student's outputs.
        alpha: the weight of the teacher for an example without a label.
    """

    def __init__(self, loss: Any, names: Iterable[str], alpha: float = 1.0):
        self._names, self._alpha = list(names), alpha
        losses = losses_by_output(loss, self._names)
        self._declared = {name: declared_by(item) for name, item in losses.items() if item is not None}

    def find(self, labels: Any) -> Unlabeled:
        """Which examples of a batch have no label.

        Args:
            labels: a tensor, a dict by output name, a list in the order of the outputs, or None.
        """
        by_output = _by_output(labels, self._names)
        declared = {name: item for name, item in self._declared.items() if name in by_output}
        return Unlabeled(declared, by_output, is_single=not keras.tree.is_nested(labels), alpha=self._alpha)


class Unlabeled:
    """Which examples of a batch have no label; false if the compiled loss cannot mark missing labels.

    An example with positions (pixels, tokens) has no label if none of its positions has one.

    Args:
        declared: how missing labels are marked, for each output with a compiled loss; None if they never are.
        labels: by output name.
        is_single: whether the batch has one tensor of labels rather than one for each output.
        alpha: the weight of the teacher for an example without a label.
    """

    def __init__(
        self, declared: dict[str, Declaration | None], labels: dict[str, Any], *, is_single: bool, alpha: float = 1.0
    ):
        self._declared, self._alpha = declared, alpha
        self._has_label = {name: item and item.has_label(labels[name]) for name, item in declared.items()}
        self._is_single = bool(self) and is_single

    def __bool__(self) -> bool:
        return any(item is not None for item in self._declared.values())

    def alpha_of_rows(self, term: DistillationLoss, alpha: Any) -> Any:
        """The weight of the teacher per row, for a term: alpha, or (by default) 1 for a row without a label.

        Returns:
            `[batch]`, or the scalar `alpha` if no row can lack a label.
        """
        rows = self.rows(term)
        return alpha if rows is None else ops.where(rows, self._alpha, alpha)

    def rows(self, term: DistillationLoss) -> Any:
        """Bool `[batch]`: the rows without a label for a term; None if every row has one.

        For a term on an output with a compiled loss, these are the rows without a label for that output; for any other
        term, the rows with no label for any output.
        """
        compared = [term.student] if term.student in self._has_label else list(self._has_label)
        has_label = [self._has_label[name] for name in compared]
        if not has_label or any(item is None for item in has_label):
            return None
        rows = [ops.any(ops.reshape(item, (ops.shape(item)[0], -1)), axis=-1) for item in has_label]
        return ops.logical_not(ops.any(ops.stack(rows), axis=0))

    def metric_weights(self, sample_weight: Any) -> Any:
        """Sample weights with 0 for rows without a label; unchanged if there are several outputs."""
        if not self._is_single:
            return sample_weight
        (has_label,) = self._has_label.values()
        return ops.cast(has_label, "float32") if sample_weight is None else multiply(sample_weight, has_label)

    def loss_weights(self, sample_weight: Any) -> Any:
        """Like `metric_weights`, for the compiled loss: label smoothing makes a row of zeros uniform probabilities."""
        is_left_out = any(item and item.ignore_class is not None for item in self._declared.values())
        return sample_weight if is_left_out else self.metric_weights(sample_weight)

    def loss_share(self) -> Any:
        """The share of the batch over which the compiled loss is the mean: Keras leaves out an ignored class."""
        if not self._is_single:
            return 1.0
        ((name, declaration),) = self._declared.items()
        return 1.0 if declaration.ignore_class is None else ops.mean(ops.cast(self._has_label[name], "float32"))

    def labels_for_terms(self, labels: Any) -> Any:
        """The labels with -1 for missing ones."""
        declared = {name: item for name, item in self._declared.items() if item is not None}
        if self._is_single:
            (declaration,) = declared.values()
            return declaration.with_minus_one(labels)
        if not isinstance(labels, dict):
            return labels
        return labels | {name: item.with_minus_one(labels[name]) for name, item in declared.items()}


def multiply(one: Any, other: Any) -> Any:
    """The product of weights `[batch, ...]` with any numbers of axes, aligned at the batch axis."""
    one, other = ops.cast(one, "float32"), ops.cast(other, "float32")
    num_axes = max(len(one.shape), len(other.shape))
    one, other = (ops.reshape(x, (*ops.shape(x), *[1] * (num_axes - len(x.shape)))) for x in (one, other))
    return one * other


def _by_output(labels: Any, names: list[str]) -> dict[str, Any]:
    """The labels by output name; only those whose name is known."""
    if isinstance(labels, (list, tuple)):
        labels = dict(zip(names, labels, strict=True)) if len(labels) == len(names) else {}
    elif not isinstance(labels, dict):
        labels = {names[0]: labels} if len(names) == 1 else {}
    return {name: item for name, item in labels.items() if item is not None and not keras.tree.is_nested(item)}
