"""The fake quantization of an activation: a range that follows the activation while the model is trained."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.quantization.fake_quant import IntegerRange, fake_quantize, nudge
from keras_kd.compression.state import replicated
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.serialization import register


@register
class ActivationQuantizer(keras.layers.Layer):
    """Rounds a tensor to the values of a range, which is a moving average of the minimum and maximum of its batches.

    In training, the first batch sets the range, and each further one moves it. The first `1 / (1 - momentum)` batches
    count alike, so that a short training does not depend on its first batch:

        minimum = minimum + rate * (min(batch, 0) - minimum),    maximum likewise
        rate = max(1 - momentum, 1 / batches so far)

    Until the first batch, and for `warmup` steps, the tensor passes unchanged. From step `freeze` on, the range is
    frozen. A step is a forward pass in training mode, divided by `calls`.

    Args:
        bits: 8, or 16 with a range symmetric around 0.
        momentum: of the moving average, 0 to 1.
        warmup: steps in which the range is followed and nothing is rounded.
        freeze: the step from which on the range is frozen; None never freezes it.
        calls: how often the layer observes a tensor in one step.
        fixed: a minimum and maximum that do not follow the tensor, such as `(0, 255 / 256)` after a softmax; None
            follows it.

    The state is three variables without gradient: `minimum`, `maximum` (float32, before nudging), and `count` (forward
    passes in training mode, int32).
    """

    def __init__(
        self,
        *,
        bits: int = 8,
        momentum: float = 0.99,
        warmup: int = 0,
        freeze: int | None = None,
        calls: int = 1,
        fixed: tuple[float, float] | None = None,
        **settings: Any,
    ):
        super().__init__(**{"dtype": "float32", "autocast": False} | settings)
        self.bits, self.momentum, self.warmup, self.freeze, self.calls = bits, momentum, warmup, freeze, calls
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.supports_masking = True
        minimum, maximum = self.fixed or (0.0, 0.0)
        self.minimum = self._state("minimum", minimum)
        self.maximum = self._state("maximum", maximum)
        self.count = replicated(self, "count", dtype="int32")

    def _state(self, name: str, value: float) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=initializer, trainable=False, aggregation="mean")

    @property
    def equivalent_layer(self) -> keras.layers.Layer:
        """A layer that does the same to logits and probabilities: nothing."""
        return keras.layers.Identity()

    def call(self, inputs, training=False, observe=True):
        """Rounds the inputs; with `observe=False` to the range of another tensor, which this layer follows."""
        if training and observe:
            self.follow([inputs])
        rounded = self._rounded(inputs, *self._limits())
        return rounded if _EXPORTING.get() else ops.where(self._is_ready(), rounded, inputs)

    def range(self) -> IntegerRange:
        """The range to which the layer rounds now."""
        minimum, maximum = (np.asarray(ops.convert_to_numpy(value), "float32") for value in self._limits())
        return IntegerRange(minimum, maximum, self.bits, self._is_symmetric)

    def step(self) -> Any:
        """The distance of neighboring values of the range, a float32 scalar tensor without gradient."""
        return ops.stop_gradient(nudge(*self._limits(), self.bits, self._is_symmetric)[2])

    def is_ready(self) -> bool:
        """Whether the layer rounds: the warm-up is over, and the range is fixed or a batch had a value other than 0."""
        return bool(ops.convert_to_numpy(self._is_ready()))

    @property
    def _is_symmetric(self) -> bool:
        return self.bits > 8

    def _limits(self) -> tuple[Any, Any]:
        """The minimum and maximum to round to; (0, 1) for a tensor of zeros."""
        minimum, maximum = ops.convert_to_tensor(self.minimum), ops.convert_to_tensor(self.maximum)
        return minimum, ops.where(maximum > minimum, maximum, ops.ones_like(maximum))

    def _rounded(self, inputs: Any, minimum: Any, maximum: Any) -> Any:
        return fake_quantize(inputs, minimum, maximum, bits=self.bits, narrow=self._is_symmetric)

    def _is_ready(self) -> Any:
        has_range = ops.convert_to_tensor(self.maximum) > ops.convert_to_tensor(self.minimum)
        return ops.logical_and(has_range, ops.convert_to_tensor(self.count) >= self.warmup * self.calls)

    def follow(self, observed: Sequence[Any]) -> None:
        """Moves the range toward the extremes of one or more tensors, as one step in training mode does."""
        if self.fixed is None:
            minimum, maximum = self._moved(observed)
            self.minimum.assign(minimum)
            self.maximum.assign(maximum)
        self.count.assign(ops.convert_to_tensor(self.count) + 1)

    def _moved(self, observed: Sequence[Any]) -> tuple[Any, Any]:
        minimum, maximum = ops.convert_to_tensor(self.minimum), ops.convert_to_tensor(self.maximum)
        count = ops.convert_to_tensor(self.count)
        lowest, highest = _extremes(observed, symmetric=self._is_symmetric)
        rate = ops.maximum(1.0 - self.momentum, 1.0 / ops.cast(count + 1, "float32"))
        rate = ops.where(maximum > minimum, rate, 1.0)  # the first batch sets the range
        is_moved = ops.logical_and(ops.isfinite(lowest), ops.isfinite(highest))
        if (end := self._last_step()) is not None:
            is_moved = ops.logical_and(is_moved, count < end * self.calls)
        return (
            ops.where(is_moved, minimum + rate * (lowest - minimum), minimum),
            ops.where(is_moved, maximum + rate * (highest - maximum), maximum),
        )

    def _last_step(self) -> int | None:
        """The step from which on the minimum and maximum are frozen."""
        return self.freeze

    def compute_output_spec(self, inputs, *args, **kwargs):
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self):
        return super().get_config() | {
            "bits": self.bits,
            "momentum": self.momentum,
            "warmup": self.warmup,
            "freeze": self.freeze,
            "calls": self.calls,
            "fixed": self.fixed,
        }


def _extremes(observed: Sequence[Any], *, symmetric: bool) -> tuple[Any, Any]:
    """The minimum, at most 0, and the maximum, at least 0, of several tensors, as float32 scalars."""
    lowest = highest = ops.zeros((), "float32")
    for value in observed:
        value = ops.cast(ops.stop_gradient(value), "float32")
        lowest, highest = ops.minimum(lowest, ops.min(value)), ops.maximum(highest, ops.max(value))
    if symmetric:
        highest = ops.maximum(highest, -lowest)
        return -highest, highest
    return lowest, highest


_EXPORTING: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


def is_exporting() -> bool:
    """Whether a model is being traced for a converter, inside of `exporting`."""
    return _EXPORTING.get()


@contextlib.contextmanager
def exporting(model: keras.Model) -> Iterator[None]:
    """Inside the `with` block, activations are rounded without a condition, so that a converter finds the ranges.

    Raises:
        ConfigurationError: an activation of the model has no range yet.
    """
    quantizers = {
        path: layer for path, layer in layers_by_path(model).items() if isinstance(layer, ActivationQuantizer)
    }
    waiting = [path for path, layer in quantizers.items() if not layer.is_ready()]
    if waiting and all(layer.fixed is not None or path in waiting for path, layer in quantizers.items()):
        raise ConfigurationError(
            explain(
                f"The activations of {model.name!r} have no ranges.",
                received=f"{len(waiting)} quantizers without a range, such as {waiting[0]!r}",
                expected="a model that was trained for at least one step after the warm-up",
            )
        )
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)
