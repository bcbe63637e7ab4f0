"""Several labels per example, none of which excludes another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import measures
from keras_kd.tasks.base import Inputs, Task, registry
from keras_kd.tasks.decisions import applies, finite
from keras_kd.tasks.labels import UNLABELED, is_one_hot, multi_hot
from keras_kd.tasks.measures import Measure


@registry.register
@dataclass(frozen=True)
class MultiLabel(Task):
    """Independent labels. Labels: multi-hot rows `[n, C]` of 1 and 0, -1 for a missing one. A model ends in C logits,
    or in their sigmoid.

    The mean average precision ranks the outputs; micro-F1 and exact match decide at probability 0.5.

    >>> MultiLabel().measure(np.array([[0.9, 0.1], [0.2, 0.8]]), [[1, 0], [0, -1]], from_logits=False)["exact_match"]
    1.0
    """

    measures = (
        Measure("mean_average_precision", "Mean AP", measures.mean_average_precision, "mAP"),
        Measure("micro_f1", "Micro-F1", measures.micro_f1, "F1"),
        Measure("exact_match", "Exact match", measures.exact_match, "Exact", is_share=True, is_proportion=True),
    )
    activations = ("linear", "sigmoid")

    @classmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        is_multi_hot = labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf"
        if not is_multi_hot or not np.isin(labels, (0, 1, UNLABELED)).all() or is_one_hot(labels):
            return None
        return "rows of 0 and 1 that are not one-hot"

    def read(self, labels, *, what="y", num_outputs=None):
        """Float32 `[n, C]`: 1, 0, or -1 for a missing label."""
        return multi_hot(labels, num_outputs, what=what)

    def has_label(self, labels):
        return (labels != UNLABELED).any(axis=1)

    def unlabeled(self, labels):
        return np.full_like(labels, UNLABELED)

    def num_outputs(self, labels):
        return labels.shape[1]

    def strata(self, labels):
        """The rarest label that applies to each example, 0 where none does."""
        counts = (labels == 1).sum(axis=0)
        rarity = np.where(labels == 1, counts, np.iinfo(np.int64).max)
        return np.where((labels == 1).any(axis=1), rarity.argmin(axis=1) + 1, 0)

    def mixed(self, labels, partners, share, num_outputs):
        is_missing = (labels == UNLABELED) | (partners == UNLABELED)
        mixed = share[:, None] * labels + (1 - share[:, None]) * partners
        return np.where(is_missing, UNLABELED, mixed).astype(np.float32)

    def loss(self, *, from_logits, mixed=False):
        from keras_kd.tasks.losses import BinaryCrossentropy

        return BinaryCrossentropy(from_logits=from_logits)

    def metrics(self, *, from_logits):
        from keras_kd.tasks.metrics import LabelAccuracy

        return [LabelAccuracy(threshold=0.0 if from_logits else 0.5, name=self.curve)]

    def loss_of_guessing(self, num_outputs):
        return math.log(2)

    def scored(self, outputs, labels, *, from_logits=None):
        """Outputs, decisions (bool) and labels, all `[n, C]`; -1 for a missing label."""
        outputs = finite(outputs)
        true = self.read(labels)
        if outputs.shape != true.shape:
            received = f"labels of shape {true.shape}, predictions of shape {outputs.shape}"
            raise ConfigurationError(
                explain(
                    "The shapes of labels and predictions differ.", received=received, expected="one label per output"
                )
            )
        return outputs, applies(outputs, from_logits=from_logits), true

    def decisions(self, outputs, *, from_logits=None):
        return applies(outputs, from_logits=from_logits)
