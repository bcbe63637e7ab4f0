"""One class per example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import measures
from keras_kd.tasks.base import Inputs, Task, not_comparable, registry
from keras_kd.tasks.decisions import class_ids
from keras_kd.tasks.labels import UNLABELED, class_numbers, is_one_hot, label_array
from keras_kd.tasks.measures import Measure


class ClassTask(Task):
    """The common base of tasks with exclusive classes, per example or per position; -1 marks a missing label."""

    has_classes = True

    def has_label(self, labels):
        return (labels.reshape(len(labels), -1) != UNLABELED).any(axis=1)

    def unlabeled(self, labels):
        return np.full_like(labels, UNLABELED)

    def num_outputs(self, labels):
        return max(int(labels.max(initial=UNLABELED)) + 1, 1)

    def loss(self, *, from_logits, mixed=False):
        import keras

        if mixed:  # shares of classes; a row of zeros has no label
            return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, ignore_class=UNLABELED)

    def loss_of_guessing(self, num_outputs):
        return math.log(max(num_outputs, 2))

    def scored(self, outputs, labels, *, from_logits=None):
        """Predicted and true classes, both `[m]`, where a label is known."""
        predicted, num_classes = class_ids(outputs, from_logits=from_logits)
        true = class_numbers(labels, _positions(predicted, labels), num_classes)
        known = true != UNLABELED
        if num_classes is None and predicted.min() < 0:
            raise _out_of_range(predicted)
        return predicted[known], true[known]

    def decisions(self, outputs, *, from_logits=None):
        return class_ids(outputs, from_logits=from_logits)[0]

    def agreement(self, outputs, others, *, from_logits=None):
        shapes = [np.shape(values) for values in (outputs, others)]
        if all(len(shape) > 1 for shape in shapes) and shapes[0] != shapes[1]:
            raise not_comparable(*shapes)
        return super().agreement(outputs, others, from_logits=from_logits)

    def confusion(self, outputs, scored):
        predicted, true = scored
        shape = np.shape(outputs)
        if len(shape) > 1:
            num_classes = max(shape[-1], 2)
        else:
            is_binary = np.asarray(outputs).dtype.kind == "f"
            num_classes = 2 if is_binary else int(max(predicted.max(initial=0), true.max(initial=0))) + 1
        return measures.confusion_matrix(predicted, true, num_classes)


@registry.register
@dataclass(frozen=True)
class Classification(ClassTask):
    """One class per example. Labels: class numbers `[n]` or `[n, 1]`, or one-hot rows `[n, C]`; -1 or a row of zeros is
    a missing label. A model ends in C logits, or in their softmax.

    Mixed labels are shares of classes `[n, C]`, without a label where one of the two examples has none.

    >>> Classification().measure(np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 0])["accuracy"]
    0.5
    """

    measures = (
        Measure("accuracy", "Accuracy", measures.accuracy, "Acc.", is_share=True, is_proportion=True),
        Measure("macro_f1", "Macro-F1", measures.macro_f1, "F1"),
    )
    unlabeled_in_files = False

    @classmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        is_row = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
        if is_row and labels.dtype.kind in "biu":
            return "one class number per example"
        if is_row and labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels), equal_nan=True):
            return "one whole number per example"  # a missing one does not make the others measurements
        return "one-hot rows" if labels.ndim == 2 and is_one_hot(labels) else None

    def read(self, labels, *, what="y", num_outputs=None):
        """Int64 `[n]`, -1 for a missing label."""
        labels = label_array(labels, what)
        return class_numbers(labels, (len(labels),), num_outputs, what=what)

    def strata(self, labels):
        return labels

    def mixed(self, labels, partners, share, num_outputs):
        one, other = (shares(values, num_outputs) for values in (labels, partners))
        mixed = share[:, None] * one + (1 - share[:, None]) * other
        return np.where((one.sum(-1) * other.sum(-1) > 0)[:, None], mixed, 0).astype(np.float32)

    def metrics(self, *, from_logits):
        return ["accuracy"]


def shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Float32 `[n, C]` from class numbers, or from rows that already are shares; a row of zeros has no label."""
    labels = np.asarray(labels)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        return labels.astype(np.float32)
    numbers = class_numbers(labels, (len(labels),), num_classes)
    return (numbers[:, None] == np.arange(num_classes)).astype(np.float32)


def _positions(predicted: np.ndarray, labels: Any) -> tuple[int, ...]:
    if len(predicted) != len(labels):
        received = f"{len(labels)} labels, {len(predicted)} predictions"
        raise ConfigurationError(
            explain("The numbers of labels and predictions differ.", received=received, expected="one label each")
        )
    return predicted.shape


def _out_of_range(predicted: np.ndarray) -> ConfigurationError:
    problem, received = "A predicted class is out of range.", f"from {predicted.min()} to {predicted.max()}"
    return ConfigurationError(explain(problem, received=received, expected="class numbers from 0"))
