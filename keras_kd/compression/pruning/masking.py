"""The mask of one weight: state, when it changes, and by which scores."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd import schedules
from keras_kd.compression.pruning.patterns import Pattern, get_pattern
from keras_kd.compression.pruning.sparsities import END
from keras_kd.compression.selection import MatrixView
from keras_kd.compression.state import replicated
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.serialization import deserialize, register, serialize

_CLOSE = 0.005


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
        self.mask = replicated(self, "mask", shape, initializer="ones")
        self.step = replicated(self, "step", dtype="int32")

    def call(self, weight, training=False):
        mask = ops.convert_to_tensor(self.mask)
        if training:
            step = ops.convert_to_tensor(self.step)
            mask = ops.cond(self._is_due(step), lambda: self._computed(weight, mask, step), lambda: mask)
            self.mask.assign(mask)
            self.step.assign(step + 1)
        return weight * ops.cast(self.passing(mask), weight.dtype)

    def scores(self, weight: Any, mask: Any) -> Any:
        """The importance of each weight, at least 0: its magnitude, and 0 if it is pruned already."""
        return ops.abs(ops.cast(ops.stop_gradient(weight), "float32")) * mask

    def units(self, weight: Any) -> Any:
        """The scores of what is pruned as one, weights or blocks, by the magnitude of the weight."""
        return self.pattern.units(self._matrix(ops.abs(ops.cast(weight, "float32"))))

    def passing(self, mask: Any) -> Any:
        """The factor of the weight: the mask."""
        return mask

    def unfinished(self):
        taken, final = int(self.step) // self.calls, float(self.target(END))
        past = taken - 1 - self.begin
        last = self.begin + past // self.frequency * self.frequency
        if final <= _CLOSE or past >= 0 and float(self.target(last)) >= final - _CLOSE:
            return None
        if past < 0:
            return f"no mask was computed in {taken:,} steps, and pruning begins at step {self.begin:,}"
        return f"the last masks were computed at step {last:,}, and the sparsity rises after it"

    def target(self, step: Any) -> Any:
        """The sparsity that the schedule asks for at a step of the training."""
        return ops.clip(self.sparsity(ops.maximum(step - self.begin, 0)), 0.0, 1.0)

    def _is_due(self, step: Any) -> Any:
        past = step // self.calls - self.begin
        return ops.logical_and(past >= 0, ops.logical_and(past % self.frequency == 0, step % self.calls == 0))

    def _computed(self, weight: Any, mask: Any, step: Any) -> Any:
        kept = self.pattern.mask(self._matrix(self.scores(weight, mask)), self.target(step // self.calls))
        return kept if self.view is None else self.view.kernel(kept, tuple(mask.shape))

    def _matrix(self, values: Any) -> Any:
        return values if self.view is None else self.view.matrix(values)

    def get_config(self):
        return super().get_config() | {
            "sparsity": serialize(self.sparsity),
            "pattern": str(self.pattern),
            "view": self.view and self.view.get_config(),
            "begin": self.begin,
            "frequency": self.frequency,
            "calls": self.calls,
        }

    @classmethod
    def from_config(cls, config):
        view = config.pop("view")
        view = view and MatrixView.from_config(view)
        return cls(deserialize(config.pop("sparsity")), config.pop("pattern"), view, **config)


@register
class MovementMask(Mask):
    """A mask whose scores are trained: weights that move away from zero are kept, whatever their magnitude.

    The weight is used as `weight * mask`. The gradient passes the mask as if it were the scores, so that in a step of
    SGD a score changes by `-learning_rate * gradient * weight`, even for a pruned weight, which may therefore return.

    Source: V. Sanh, T. Wolf & A. Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", 2020.
    """

    def build(self, shape):
        super().build(shape)
        self.movement = self.add_weight(name="scores", shape=shape, initializer="zeros", trainable=True)

    def scores(self, weight, mask):
        movement = ops.stop_gradient(ops.convert_to_tensor(self.movement))
        return ops.where(weight == 0, 0.0, movement - ops.min(movement))  # zeros of an earlier technique go first

    def passing(self, mask):
        movement = ops.convert_to_tensor(self.movement)
        return mask + (movement - ops.stop_gradient(movement))
