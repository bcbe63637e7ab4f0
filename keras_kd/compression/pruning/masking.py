"""The mask of one weight: state, and when it changes."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd import schedules
from keras_kd.compression.pruning.patterns import Pattern, get_pattern
from keras_kd.compression.selection import MatrixView
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.serialization import deserialize, register, serialize


@register
class Mask(WeightFunction):
    """Multiplies a weight by a mask whose sparsity follows a schedule.

    At step `begin` and every `frequency` steps after it, the mask keeps the weights of largest magnitude. A pruned
    weight counts as 0 from then on, so that it stays pruned. Steps are forward passes in training mode, divided by
    `calls`.

    Args:
        sparsity: the schedule of the fraction of zeros.
        pattern: which weights are pruned together, a `Pattern`.
        view: how the weight is read as a matrix; None for unstructured patterns.
        begin, frequency: when the mask is computed.
        calls: how often the layer runs in one step.
    """

    def __init__(self, sparsity, pattern, view, *, begin=0, frequency=100, calls=1, **settings):
        super().__init__(**settings)
        self.sparsity = schedules.get(sparsity)
        self.pattern: Pattern = get_pattern(pattern)
        self.view: MatrixView | None = view
        self.begin, self.frequency, self.calls = begin, frequency, calls

    def build(self, shape):
        self.mask = self.add_weight(name="mask", shape=shape, initializer="ones", trainable=False)
        self.step = self.add_weight(name="step", shape=(), initializer="zeros", dtype="int32", trainable=False)

    def call(self, weight, training=False):
        mask = ops.convert_to_tensor(self.mask)
        if training:
            step = ops.convert_to_tensor(self.step)
            mask = ops.cond(self._is_due(step), lambda: self._computed(weight, mask, step), lambda: mask)
            self.mask.assign(mask)
            self.step.assign(step + 1)
        return weight * ops.cast(mask, weight.dtype)

    def target(self, step: Any) -> Any:
        """The sparsity that the schedule asks for at a step of the training."""
        return ops.clip(self.sparsity(ops.maximum(step - self.begin, 0)), 0.0, 1.0)

    def _is_due(self, step: Any) -> Any:
        past = step // self.calls - self.begin
        return ops.logical_and(past >= 0, ops.logical_and(past % self.frequency == 0, step % self.calls == 0))

    def _computed(self, weight: Any, mask: Any, step: Any) -> Any:
        scores = ops.abs(ops.cast(ops.stop_gradient(weight), "float32")) * mask
        if self.view is not None:
            scores = self.view.matrix(scores)
        kept = self.pattern.mask(scores, self.target(step // self.calls))
        return kept if self.view is None else self.view.kernel(kept, tuple(mask.shape))

    def get_config(self):
        return super().get_config() | {
            "sparsity": serialize(self.sparsity),
            "pattern": str(self.pattern),
            "view": None if self.view is None else [list(self.view.axes), self.view.inputs, self.view.outputs],
            "begin": self.begin,
            "frequency": self.frequency,
            "calls": self.calls,
        }

    @classmethod
    def from_config(cls, config):
        view = config.pop("view")
        view = None if view is None else MatrixView(tuple(view[0]), view[1], view[2])
        return cls(deserialize(config.pop("sparsity")), config.pop("pattern"), view, **config)
