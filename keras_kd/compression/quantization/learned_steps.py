"""Learned step size quantization: the scale is trained by the gradient of the loss.

Source: S. Esser et al., "Learned Step Size Quantization", 2020.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from keras_kd.compression.quantization.activations import ActivationQuantizer, is_exporting
from keras_kd.compression.quantization.fake_quant import fake_quantize, nudge
from keras_kd.compression.quantization.weights import FakeQuantizedWeight
from keras_kd.compression.state import replicated
from keras_kd.serialization import register

_LEAST = 1e-8


def step_gradient(inputs: Any, step: Any, smallest: Any, largest: Any) -> Any:
    """The derivative of each rounded value with respect to the step size, without a gradient of its own.

        round(v) - v  within the limits,  smallest  below,  largest  above,    v = inputs / step

    Args:
        inputs: float32, of any shape.
        step: the distance of neighboring values; broadcasts to `inputs`.
        smallest, largest: the limits as multiples of the step.
    """
    multiple = ops.stop_gradient(inputs / step)
    clipped = ops.clip(multiple, smallest, largest)
    return ops.where(clipped == multiple, ops.round(multiple) - multiple, clipped)


@register
class LearnedStepWeight(FakeQuantizedWeight):
    """Rounds a weight to multiples of a step size that is trained, one for each channel or one for all.

    The step starts at `2 * mean |weight| / sqrt(largest)`, and its gradient is scaled by `1 / sqrt(n * largest)`, with
    the `n` weights that share it and the largest integer `2^(bits - 1) - 1`. The variable is `step_size`. It
    is never frozen: like the weight, it is still trained when the ranges of the activations are frozen.
    """

    @property
    def _largest(self) -> float:
        return 2.0 ** (self.bits - 1) - 1

    def build(self, shape):
        sizes = [shape[axis] for axis in self.axes]
        self._spread = [size if axis in self.axes else 1 for axis, size in enumerate(shape)]
        self._shared = math.prod(shape) / math.prod(sizes)
        self.step_size = self.add_weight(
            name="step_size", shape=(math.prod(sizes),) if sizes else (), initializer="ones", trainable=True
        )

    def start(self, value):
        others = tuple(axis for axis in range(value.ndim) if axis not in self.axes)
        mean = np.abs(value).mean(axis=others, dtype="float64").reshape(self.step_size.shape)
        self.step_size.assign(np.where(mean > 0, 2 * mean / math.sqrt(self._largest), 1.0).astype("float32"))

    def limits(self, weight):
        step = ops.maximum(ops.abs(ops.convert_to_tensor(self.step_size)), _LEAST)
        return -step * self._largest, step * self._largest

    def call(self, weight, training=False):
        step = ops.reshape(ops.maximum(ops.abs(ops.convert_to_tensor(self.step_size)), _LEAST), self._spread)
        limit = ops.cast(ops.stop_gradient(step) * self._largest, weight.dtype)
        rounded = super().call(ops.clip(weight, -limit, limit), training=training)
        if not training:
            return rounded
        values = ops.cast(ops.stop_gradient(weight), "float32")
        slope = step_gradient(values, ops.stop_gradient(step), -self._largest, self._largest)
        slope = slope / math.sqrt(self._shared * self._largest)
        return rounded + ops.cast(slope * (step - ops.stop_gradient(step)), rounded.dtype)


@register
class LearnedStepQuantizer(ActivationQuantizer):
    """Rounds an activation to a range whose width is trained, from the range that the first batches have.

    The range follows the activation for `warmup` steps, at least for one; after it, both of its ends are multiplied by
    the trained variable `stretch`, so that 0 stays the same integer. The gradient is that of the step size, scaled by
    `1 / sqrt(n * largest)` with the `n` values of an example and the largest integer.

    From step `freeze` on, a copy without gradient, `frozen_stretch`, takes the place of `stretch`, which an optimizer
    with momentum or weight decay still moves.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.stretch = self.add_weight(name="stretch", shape=(), initializer="ones", trainable=self.fixed is None)
        if self.freeze is not None:
            self.frozen_stretch = replicated(self, "frozen_stretch", initializer="ones")

    def follow(self, observed):
        if self.freeze is not None:
            self.frozen_stretch.assign(ops.stop_gradient(self._current_stretch()))
        super().follow(observed)

    def _limits(self):
        minimum, maximum = super()._limits()
        factor = ops.stop_gradient(self._factor())
        return minimum * factor, maximum * factor

    def _factor(self) -> Any:
        return ops.maximum(ops.abs(self._current_stretch()), _LEAST)

    def _current_stretch(self) -> Any:
        stretch = ops.convert_to_tensor(self.stretch)
        if self.freeze is None:
            return stretch
        is_frozen = ops.convert_to_tensor(self.count) > self.freeze * self.calls
        return ops.where(is_frozen, ops.convert_to_tensor(self.frozen_stretch), stretch)

    def _last_step(self):
        start = max(self.warmup, 1)
        return start if self.freeze is None else min(start, self.freeze)

    def _rounded(self, inputs, minimum, maximum):
        rounded = fake_quantize(inputs, minimum, maximum, bits=self.bits, narrow=self._is_symmetric)
        if is_exporting():  # the rest is 0, with a gradient
            return rounded
        low, high, step = (ops.stop_gradient(value) for value in nudge(minimum, maximum, self.bits, self._is_symmetric))
        values = ops.cast(ops.stop_gradient(inputs), "float32")
        slope = step_gradient(values, step, ops.round(low / step), ops.round(high / step)) * step
        slope = slope / math.sqrt(math.prod(size or 1 for size in inputs.shape[1:]) * (2.0**self.bits - 1))
        factor = self._factor()
        change = factor / ops.stop_gradient(factor) - 1.0
        return rounded + ops.cast(slope * (change - ops.stop_gradient(change)), rounded.dtype)
