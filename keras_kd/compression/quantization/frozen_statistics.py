"""Batch normalization whose statistics stop changing at a step."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.compression.inside import Inside
from keras_kd.compression.state import replicated
from keras_kd.features.capture import replaced
from keras_kd.serialization import register
from keras_kd.surgery.overlay import Overlay


@register
class FrozenStatistics(Inside):
    """Lets a `BatchNormalization` use its moving statistics, and leave them unchanged, from a step of the training on.

    Source: R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.2.

    Args:
        freeze: the step; a step is a forward pass in training mode, divided by `calls`.
        calls: how often the layer runs in one step.
    """

    def __init__(self, freeze: int, *, calls: int = 1, **settings: Any):
        super().__init__(**settings)
        self.freeze, self.calls = freeze, calls
        self.count = replicated(self, "count", dtype="int32")

    def around(self, layer, *, training):
        return replaced(layer, "call", lambda original: self._call(original, training=training))

    def _call(self, original: Any, *, training: bool) -> Any:
        def call(inputs, training=training, mask=None):
            if not training:
                return original(inputs, training=False, mask=mask)
            count = ops.convert_to_tensor(self.count)
            is_frozen = count >= self.freeze * self.calls
            with Overlay([]) as overlay:
                moving = original(inputs, training=True, mask=mask)
            for variable, value in overlay.updates:
                variable.assign(ops.where(is_frozen, ops.convert_to_tensor(variable), value))
            self.count.assign(count + 1)
            return ops.where(is_frozen, original(inputs, training=False, mask=mask), moving)

        return call

    def get_config(self):
        return super().get_config() | {"freeze": self.freeze, "calls": self.calls}
