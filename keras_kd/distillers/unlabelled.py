"""Examples without a label: how the compiled loss declares them, and where a batch has them. Alpha is 1 there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_kd.data import UNLABELLED
from keras_kd.distillers.supervision import losses_by_output
from keras_kd.losses import DistillationLoss, Weighted
from keras_kd.serialization import snake_case

_OF_SOFT_LABELS = {"categorical_crossentropy", "categorical_focal_crossentropy"}


@dataclasses.dataclass(frozen=True)
class Declaration:
    """How the labels of one output say that there is none.

    Attributes:
        ignore_class: by this class number; None is by a row of zeros in the place of class probabilities.
    """

    ignore_class: int | None

    def has_label(self, labels: Any) -> Any:
        """Bool `[batch, ...]`, from class numbers `[batch, ...(, 1)]` or probabilities `[batch, ..., classes]`."""
        labels = ops.cast(labels, "float32")  # as Keras compares them: -1 is no uint8
        if self.ignore_class is None:
            return ops.any(ops.not_equal(labels, 0.0), axis=-1)
        if len(labels.shape) > 1 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, axis=-1)
        return ops.not_equal(labels, float(self.ignore_class))

    def with_minus_one(self, labels: Any) -> Any:
        """The labels with -1 for none, as the losses of this package know it."""
        if self.ignore_class in (None, UNLABELLED):
            return labels
        is_missing = ops.equal(ops.cast(labels, "float32"), float(self.ignore_class))
        return ops.where(is_missing, UNLABELLED, ops.cast(labels, "int32"))


def declared_by(loss: Any) -> Declaration | None:
    """What a compiled loss says of missing labels: by its `ignore_class`, or by being a cross-entropy of soft labels.

    >>> declared_by(keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    Declaration(ignore_class=-1)
    >>> declared_by("categorical_crossentropy")
    Declaration(ignore_class=None)
    >>> declared_by("mse") is None
    True
    """
    if isinstance(loss, keras.losses.Loss):
        ignore_class = getattr(loss, "ignore_class", None)
        if ignore_class is not None:
            return Declaration(ignore_class)
        name = type(loss).__name__ if type(loss).__module__.startswith("keras.") else ""
    else:
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    return Declaration(None) if snake_case(name) in _OF_SOFT_LABELS else None


class Unlabelled:
    """Which examples of a batch have no label; false where the compiled loss declares that all have one.

    An example of many positions (pixels, tokens) has no label where none of them has.

    Args:
        loss: as given to `compile`.
        labels: of the batch: a tensor, a dict by output name, a list in the order of the outputs, or None.
        names: of the student's outputs.
    """

    def __init__(self, loss: Any, labels: Any, names: Iterable[str]):
        names = list(names)
        by_output = _by_output(labels, names)
        losses = {name: item for name, item in losses_by_output(loss, names).items() if name in by_output}
        # of the outputs with a compiled loss; None where every example has a label
        self._declared = {name: declared_by(item) for name, item in losses.items() if item is not None}
        self._has_label = {name: item and item.has_label(by_output[name]) for name, item in self._declared.items()}
        self._is_single = bool(self) and not keras.tree.is_nested(labels)

    def __bool__(self) -> bool:
        return any(item is not None for item in self._declared.values())

    def rows(self, term: DistillationLoss) -> Any:
        """Float32 `[batch]`, 1 for the examples at which alpha is 1 for a term; None where it is so at none.

        These are the ones without a label of the output that the term compares. For a term on inner layers, or on an
        output without a compiled loss, they are the ones without any label.
        """
        compared = [term.student] if term.student in self._has_label else list(self._has_label)
        has_label = [self._has_label[name] for name in compared]
        if not has_label or any(item is None for item in has_label) or not _is_linear(term):
            return None
        rows = [ops.any(ops.reshape(item, (ops.shape(item)[0], -1)), axis=-1) for item in has_label]
        return 1.0 - ops.cast(ops.any(ops.stack(rows), axis=0), "float32")

    def metric_weights(self, sample_weight: Any) -> Any:
        """Sample weights with 0 where there is no label; as they are where there are several outputs."""
        if not self._is_single:
            return sample_weight
        (has_label,) = self._has_label.values()
        return ops.cast(has_label, "float32") if sample_weight is None else multiply(sample_weight, has_label)

    def loss_weights(self, sample_weight: Any) -> Any:
        """The same for the compiled loss: label smoothing would make a row of zeros one of equal probabilities."""
        is_left_out = any(item and item.ignore_class is not None for item in self._declared.values())
        return sample_weight if is_left_out else self.metric_weights(sample_weight)

    def loss_share(self) -> Any:
        """The share of the batch that the compiled loss is the mean of: Keras leaves an ignored class out."""
        if not self._is_single:
            return 1.0
        ((name, declaration),) = self._declared.items()
        return 1.0 if declaration.ignore_class is None else ops.mean(ops.cast(self._has_label[name], "float32"))

    def labels_for_terms(self, labels: Any) -> Any:
        """The labels with -1 for none."""
        declared = {name: item for name, item in self._declared.items() if item is not None}
        if self._is_single:
            (declaration,) = declared.values()
            return declaration.with_minus_one(labels)
        if not isinstance(labels, dict):
            return labels
        return labels | {name: item.with_minus_one(labels[name]) for name, item in declared.items()}


def multiply(one: Any, other: Any) -> Any:
    """The product of weights `[batch, ...]` whose numbers of axes differ, aligned from the batch axis on."""
    one, other = ops.cast(one, "float32"), ops.cast(other, "float32")
    num_axes = max(len(one.shape), len(other.shape))
    one, other = (ops.reshape(x, (*ops.shape(x), *[1] * (num_axes - len(x.shape)))) for x in (one, other))
    return one * other


def _by_output(labels: Any, names: list[str]) -> dict[str, Any]:
    """The labels by output name, where these are known."""
    if isinstance(labels, (list, tuple)):
        labels = dict(zip(names, labels, strict=True)) if len(labels) == len(names) else {}
    elif not isinstance(labels, dict):
        labels = {names[0]: labels} if len(names) == 1 else {}
    return {name: item for name, item in labels.items() if item is not None and not keras.tree.is_nested(item)}


def _is_linear(term: DistillationLoss) -> bool:
    """Whether a term grows in proportion to its sample weights: not where it is divided by their sum."""
    while isinstance(term, Weighted):
        term = term.loss
    return term.reduction != "mean_with_sample_weight"
