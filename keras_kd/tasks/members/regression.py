"""Real numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import measures
from keras_kd.tasks.base import Inputs, Task, registry
from keras_kd.tasks.decisions import finite
from keras_kd.tasks.labels import real_targets
from keras_kd.tasks.measures import Measure

_NUM_STRATA = 10


@registry.register
@dataclass(frozen=True)
class Regression(Task):
    """One or more numbers per example. Labels: `[n]` or `[n, d]`, NaN for a missing one. A model ends in d linear
    outputs.

    >>> scores = Regression().measure(np.array([[1.0], [3.0]]), np.array([2.0, 3.0]))
    >>> scores["mean_absolute_error"], scores["r_squared"]
    (0.5, -1.0)
    """

    measures = (
        Measure("root_mean_squared_error", "RMSE", measures.root_mean_squared_error, "RMSE", higher_is_better=False),
        Measure("mean_absolute_error", "MAE", measures.mean_absolute_error, "MAE", higher_is_better=False),
        Measure("r_squared", "R²", measures.r_squared, "R²"),
    )
    activations = ("linear",)
    curve = "mean_absolute_error"

    @classmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        return "floating point targets" if labels.dtype.kind == "f" and labels.ndim in (1, 2) else None

    def read(self, labels, *, what="y", num_outputs=None):
        """Float32 `[n, d]`, NaN for a missing target."""
        return real_targets(labels, num_outputs, what=what)

    def has_label(self, labels):
        return ~np.isnan(labels).all(axis=1)

    def unlabeled(self, labels):
        return np.full_like(labels, np.nan)

    def num_outputs(self, labels):
        return labels.shape[1]

    def strata(self, labels):
        """Ten groups of about equal size by the first target, in ascending order; missing ones form another group."""
        targets = labels[:, 0]
        known = np.flatnonzero(~np.isnan(targets))
        groups = np.full(len(targets), -1, np.int64)
        groups[known[np.argsort(targets[known], kind="stable")]] = (
            np.arange(len(known)) * _NUM_STRATA // max(len(known), 1)
        )
        return groups

    def mixed(self, labels, partners, share, num_outputs):
        return (share[:, None] * labels + (1 - share[:, None]) * partners).astype(np.float32)

    def loss(self, *, from_logits, mixed=False):
        from keras_kd.tasks.losses import MeanSquaredError

        return MeanSquaredError()

    def metrics(self, *, from_logits):
        from keras_kd.tasks.metrics import AbsoluteError

        return [AbsoluteError(name=self.curve)]

    def scored(self, outputs, labels, *, from_logits=None):
        """Predictions and targets, both float64 `[n, d]`; NaN for a missing target."""
        outputs = finite(outputs)
        outputs = outputs.reshape(len(outputs), -1).astype(np.float64)
        labels = np.asarray(labels)
        true = np.where(np.isnan(self.read(labels)), np.nan, labels.reshape(len(labels), -1).astype(np.float64))
        if outputs.shape != true.shape:
            received = f"targets of shape {true.shape}, predictions of shape {outputs.shape}"
            raise ConfigurationError(
                explain(
                    "The shapes of targets and predictions differ.", received=received, expected="one target per output"
                )
            )
        return outputs, true
