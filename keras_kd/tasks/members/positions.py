"""The common base of tasks with a class per position: pixels of an image, tokens of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks.labels import UNLABELED, check_class_numbers, class_numbers, label_array
from keras_kd.tasks.members.classification import ClassTask


@dataclass(frozen=True)
class PositionTask(ClassTask):
    """A class for each position of an example; -1 at a position without a label."""

    has_positions = True
    num_axes: ClassVar[int]

    ignore_class: int = UNLABELED

    def __post_init__(self):
        if not isinstance(self.ignore_class, int) or isinstance(self.ignore_class, bool):
            raise ConfigurationError(
                explain("Invalid 'ignore_class'.", received=repr(self.ignore_class), expected="a whole number")
            )

    def read(self, labels, *, what="y", num_outputs=None):
        """Int32 of `num_axes` axes, the examples first; -1 at a position without a label."""
        labels = label_array(labels, what)
        is_column = labels.ndim == self.num_axes + 1 and labels.shape[-1] == 1
        labels = labels[..., 0] if is_column else labels
        if labels.ndim != self.num_axes or labels.dtype.kind not in "biuf":
            axes = ", ".join(("n", "height", "width") if self.num_axes == 3 else ("n", "tokens"))
            raise ConfigurationError(
                explain(
                    f"Invalid labels of {self.position_unit} in {what}.",
                    received=f"shape {labels.shape} of {labels.dtype}",
                    expected=f"class numbers [{axes}]",
                    fix="Convert one-hot labels with y.argmax(-1)." if labels.ndim == self.num_axes + 1 else None,
                )
            )
        if self.ignore_class != UNLABELED:
            labels = np.where(labels == self.ignore_class, UNLABELED, labels.astype(np.int64))
        numbers = class_numbers(labels, labels.shape, num_outputs, what=what)
        check_class_numbers(what, numbers, num_outputs)
        return numbers.astype(np.int32)

    def loss(self, *, from_logits, mixed=False):
        return super().loss(from_logits=from_logits)  # mixed masks of class numbers are masks of class numbers

    def metrics(self, *, from_logits):
        from keras_kd.tasks.metrics import PositionAccuracy

        return [PositionAccuracy(name=self.curve)]

    def scored(self, outputs, labels, *, from_logits=None):
        return super().scored(outputs, self.read(labels), from_logits=from_logits)
