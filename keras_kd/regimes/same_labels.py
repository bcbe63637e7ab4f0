"""A student whose outputs all predict the same labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_kd.distillers import Distiller
from keras_kd.distillers.defaults import DefaultTerms, provisional_term, terms_that_follow
from keras_kd.losses import DistillationLoss, SoftTargets, Weighted
from keras_kd.teachers import Batch


class SameLabels(Distiller):
    """A distiller whose student has several outputs for one set of labels.

    A loss, metrics, labels and sample weights that are given once apply to every output; in the logs, those of an
    output start with its name.
    """

    def compile(self, optimizer="rmsprop", loss=None, metrics=None, weighted_metrics=None, **settings):
        """As `Distiller.compile`; a loss or metrics that are not given by output apply to every output."""
        loss = self._by_output(loss)
        metrics, weighted_metrics = (self._for_each(value, _copies) for value in (metrics, weighted_metrics))
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, weighted_metrics=weighted_metrics, **settings)

    def _for_each(self, value: Any, copied: Callable[[Any], Any]) -> Any:
        """A value for each output, unless it is given so or there is only one."""
        names = list(self._student_shapes or [])
        return (
            value if value is None or isinstance(value, dict) or len(names) < 2 else {n: copied(value) for n in names}
        )

    def _config_of_outputs(self, student: str) -> dict[str, Any]:
        """The settings that the regimes share, with the student under the name of their own argument for it."""
        shared = ("name", "alpha", "temperature", "losses", "losses_are_default", "student_outputs")
        config = super().get_config()
        return {student: config["student"], **{name: config[name] for name in shared}}

    def batch_of(self, data: Any) -> Batch:
        """The batch, with its labels and weights for each output by name."""
        batch = super().batch_of(data)
        return batch._replace(y=self._by_output(batch.y), sample_weight=self._by_output(batch.sample_weight))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As in Keras, which calls it with a plain batch when it builds a model for several replicas."""
        return super().compute_loss(x, self._by_output(y), y_pred, self._by_output(sample_weight), training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """See `compute_loss`."""
        return super().compute_metrics(x, self._by_output(y), y_pred, self._by_output(sample_weight))

    def _by_output(self, value: Any) -> Any:
        return self._for_each(value, lambda value: value)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An output that teaches another.

    Attributes:
        teacher, student: names of outputs.
        name: of the term in the logs.
        weight: of the term.
    """

    teacher: str
    student: str
    name: str
    weight: float = 1.0


class PairedTerms(DefaultTerms):
    """A default term for each pair of outputs.

    Args:
        pairs: which output teaches which.
        kept: terms beside them, which do not depend on the compiled loss.
    """

    def __init__(self, pairs: Sequence[Pair], kept: Sequence[DistillationLoss] = ()):
        self._pairs, self.kept = tuple(pairs), tuple(kept)

    def provisional(self, teacher_shapes, student_shapes, heads):
        made = [
            provisional_term(pair.teacher, pair.student, heads[pair.student], student_shapes[pair.student])
            for pair in self._pairs
        ]
        return self._complete(made)

    def that_follow(self, loss, terms, heads, student_shapes, ends):
        given = [SoftTargets(teacher=pair.teacher, student=pair.student) for pair in self._pairs]
        return self._complete(terms_that_follow(loss, given, heads, student_shapes, ends))

    def _complete(self, terms: Sequence[DistillationLoss]) -> list[DistillationLoss]:
        """The terms of the pairs with their names and weights, and those that are kept."""
        made = []
        for pair, term in zip(self._pairs, terms, strict=True):
            named = type(term).from_config({**term.get_config(), "name": pair.name})
            made.append(named if pair.weight == 1.0 else Weighted(named, pair.weight))
        return [*made, *self.kept]


def _copies(metrics: Any) -> Any:
    """Metrics for one more output: an object has a state of its own."""
    metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    return [
        type(one).from_config(one.get_config()) if isinstance(one, keras.metrics.Metric) else one for one in metrics
    ]
