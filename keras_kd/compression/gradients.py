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


def mean_gradients(model: keras.Model, data: Any, loss: Any) -> dict[str, np.ndarray]:
    """The mean gradient of a loss over the batches of data, by the name of the weight as in `weights_by_name`.

    The model runs in training mode, its regularizers are part of the loss, and it is not changed.

    Args:
        model: a graph of layers.
        data: what `fit` takes: `(inputs, labels)`, a data set, a `Pipeline`.
        loss: what `compile` takes.

    Raises:
        ConfigurationError: the data contain no batch, or a gradient is not finite.

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="head")])
    >>> mean_gradients(model, (np.ones((4, 1)), np.ones((4, 1))), "mean_squared_error")["head/kernel"].shape
    (1, 1)
    """
    copy, sums = clone(model), _GradientSum()
    copy.compile(sums, loss=loss, jit_compile=False)
    if isinstance(data, (tuple, list)):
        copy.fit(*data, verbose=0, shuffle=False)
    else:
        copy.fit(data, verbose=0)
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
