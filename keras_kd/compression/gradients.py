"""The mean gradient of a loss over data.

`fit` computes gradients on every backend; an optimizer that only adds them up needs no code for a backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.surgery import clone
from keras_kd.surgery.weights import weights_by_name

_BATCH_SIZE = 32  # at most


def mean_gradients(model: keras.Model, data: Any, loss: Any) -> dict[str, np.ndarray]:
    """The mean gradient of a loss over the batches of data, by the name of the weight as in `weights_by_name`.

    The model runs in training mode, its regularizers are part of the loss, and it is not changed. Batches count alike;
    those of arrays are as equal in size as `fit` allows.

    Args:
        model: a graph of layers.
        data: what `fit` takes: `(inputs, labels)` or `(inputs, labels, sample_weight)`, a data set, a `Pipeline`.
        loss: what `compile` takes.

    Raises:
        ConfigurationError: the data contain no batch, are none of these, or a gradient is not finite.

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="head")])
    >>> mean_gradients(model, (np.ones((4, 1)), np.ones((4, 1))), "mean_squared_error")["head/kernel"].shape
    (1, 1)
    """
    copy, sums = clone(model), _GradientSum()
    copy.compile(sums, loss=loss, jit_compile=False)
    copy.fit(**_arguments(data), verbose=0)
    if not sums.sums or int(ops.convert_to_numpy(sums.iterations)) == 0:
        problem, expected = "The data contain no batch.", "at least one batch of inputs and labels"
        raise ConfigurationError(explain(problem, received=type(data).__name__, expected=expected))
    by_weight = dict(zip(map(id, copy.trainable_variables), sums.means(), strict=True))
    found = {name: by_weight[id(weight)] for name, weight in weights_by_name(copy).items() if id(weight) in by_weight}
    for name, gradient in found.items():
        if not np.isfinite(gradient).all():
            problem, expected = "A gradient is not finite.", "finite data, labels and weights"
            raise ConfigurationError(explain(problem, received=repr(name), expected=expected))
    return found


def _arguments(data: Any) -> dict[str, Any]:
    """What `fit` is called with."""
    if not isinstance(data, (tuple, list)):
        return {"x": data}
    if len(data) not in (2, 3):
        parts = f"{len(data)} parts"
        expected = "(inputs, labels), (inputs, labels, sample_weight), or a data set"
        raise ConfigurationError(explain("Invalid 'data'.", received=parts, expected=expected))
    num_examples = len(keras.tree.flatten(data[0])[0])
    num_batches = max(1, -(-num_examples // _BATCH_SIZE))
    batch_size = max(1, -(-num_examples // num_batches))
    return {**dict(zip(("x", "y", "sample_weight"), data, strict=False)), "batch_size": batch_size, "shuffle": False}


class _GradientSum(keras.optimizers.Optimizer):
    """Adds up gradients, and leaves the weights alone."""

    def __init__(self):
        super().__init__(learning_rate=0.0, name="gradient_sum")
        self.sums: list[keras.Variable] = []

    def build(self, variables):
        super().build(variables)
        self.sums = [
            self.add_variable(variable.shape, dtype="float32", name=f"sum_{number}")
            for number, variable in enumerate(variables)
        ]

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(trainable_variables)
        for total, gradient in zip(self.sums, grads, strict=True):
            if gradient is not None:
                total.assign_add(ops.cast(ops.convert_to_tensor(gradient), "float32"))
        self.iterations.assign_add(1)

    def means(self) -> list[np.ndarray]:
        return [ops.convert_to_numpy(total) / int(ops.convert_to_numpy(self.iterations)) for total in self.sums]
