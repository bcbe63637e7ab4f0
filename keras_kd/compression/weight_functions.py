"""Functions from a trained weight to the one that a layer runs on, as Keras layers that own their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.serialization import deserialize, register, serialize


class WeightFunction(keras.layers.Layer):
    """Computes the weight that a layer runs on from the one that is trained.

    A subclass creates its state in `build(shape)`, such as masks or centroids, and changes it in `call` when `training`
    is true, so that `fit` needs no callback.
    """

    def __init__(self, **settings: Any):
        super().__init__(**{"dtype": "float32", "autocast": False} | settings)

    def call(self, weight: Any, training: bool = False) -> Any:
        """A tensor of the weight's shape and dtype."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return super().get_config()  # Keras' default for a class without this method leaves out the name

    def start(self, value: np.ndarray) -> None:  # noqa: B027 - nothing by default
        """Sets the initial state from the weight's value, once, when a transform is applied."""

    def after(self, functions: Sequence[WeightFunction], value: np.ndarray) -> None:  # noqa: B027 - nothing by default
        """Adapts to the functions before it, and to the weight's value, before it is built."""

    def unfinished(self) -> str | None:
        """Why the weight is not yet what was asked for, such as a schedule that has not ended; None if it is."""
        return None


@register
class Composed(WeightFunction):
    """Weight functions one after the other, the first on the trained weight.

    Args:
        functions: at least one.
    """

    def __init__(self, functions: Sequence[WeightFunction], **settings: Any):
        super().__init__(**settings)
        self.functions = list(functions)

    def build(self, shape):
        for function in self.functions:
            if not function.built:  # loaded ones are
                function.build(shape)

    def call(self, weight, training=False):
        for function in self.functions:
            weight = function(weight, training=training)
        return weight

    def start(self, value):
        for function in self.functions:
            function.start(value)
            value = ops.convert_to_numpy(function(ops.convert_to_tensor(value), training=False))

    def unfinished(self):
        return "; ".join(filter(None, (function.unfinished() for function in self.functions))) or None

    def get_config(self):
        return super().get_config() | {"functions": [serialize(function) for function in self.functions]}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls([deserialize(function) for function in config.pop("functions")], **config)


@register
class FixedZeros(WeightFunction):
    """Keeps the zeros that a weight has when it starts."""

    def build(self, shape):
        self.mask = self.add_weight(name="mask", shape=shape, initializer="ones", trainable=False)

    def call(self, weight, training=False):
        return weight * ops.cast(self.mask, weight.dtype)

    def start(self, value):
        self.mask.assign((value != 0).astype("float32"))
