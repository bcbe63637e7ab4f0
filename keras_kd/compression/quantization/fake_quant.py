"""Fake quantization: a tensor rounded to the values that an integer with a scale can stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops


class IntegerRange(NamedTuple):
    """The real numbers that the integers of a tensor stand for: `scale * (integer - zero_point)`.

    Attributes:
        minimum, maximum: float32 NumPy arrays, of shape `()` or one value for each channel; exactly what the fake
            quantization is called with, before it is nudged.
        bits: 2 to 16.
        narrow: whether the smallest integer is left out, as for weights.
        axes: the axes of the channels; empty for one range for the whole tensor. Two axes count as one, in row-major
            order, as in a depthwise kernel `(height, width, channels, multiplier)`.
    """

    minimum: np.ndarray
    maximum: np.ndarray
    bits: int
    narrow: bool = False
    axes: tuple[int, ...] = ()

    @property
    def scale(self) -> np.ndarray:
        """The distance of neighboring values, float32."""
        return ops.convert_to_numpy(nudge(self.minimum, self.maximum, self.bits, self.narrow)[2])

    @property
    def zero_point(self) -> np.ndarray:
        """The integer that stands for 0, as a signed integer of `bits` bits (-128 to 127 for 8), int32."""
        minimum, _, scale = (
            ops.convert_to_numpy(value) for value in nudge(self.minimum, self.maximum, self.bits, self.narrow)
        )
        return np.round(-minimum / scale).astype("int32") + int(self.narrow) - 2 ** (self.bits - 1)


def nudge(minimum: Any, maximum: Any, bits: int, narrow: bool = False) -> tuple[Any, Any, Any]:
    """The range moved so that 0 is one of its values, and the distance of neighboring values.

        scale = (maximum - minimum) / (largest - smallest),    smallest = 1 if narrow else 0,  largest = 2^bits - 1
        zero_point = round(smallest - minimum / scale), clipped to the integers
        nudged = (smallest - zero_point) * scale, (largest - zero_point) * scale

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018, section 3.

    Args:
        minimum, maximum: at most and at least 0, not equal; of any shape.
        bits: of the integers.
        narrow: whether the smallest integer is left out, so that a symmetric range has as many values on both sides.

    Returns:
        Nudged minimum and maximum, and the scale, float32.
    """
    minimum, maximum = ops.cast(minimum, "float32"), ops.cast(maximum, "float32")
    smallest, largest = float(narrow), float(2**bits - 1)
    scale = (maximum - minimum) / (largest - smallest)
    zero_point = ops.clip(ops.floor(smallest - minimum / scale + 0.5), smallest, largest)
    return (smallest - zero_point) * scale, (largest - zero_point) * scale, scale


def fake_quantize(inputs: Any, minimum: Any, maximum: Any, *, bits: int = 8, narrow: bool = False) -> Any:
    """Rounds to the nearest of the `2^bits` values in a range; the gradient is 1 inside of it and 0 outside.

    Args:
        inputs: a floating-point tensor.
        minimum, maximum: as in `nudge`, of shape `()`. No gradient reaches them.
        bits, narrow: as in `nudge`.

    Returns:
        A tensor of the shape and dtype of `inputs`.
    """
    minimum, maximum = (ops.stop_gradient(ops.cast(value, "float32")) for value in (minimum, maximum))
    return keras.quantizers.fake_quant_with_min_max_vars(inputs, minimum, maximum, num_bits=bits, narrow_range=narrow)


def fake_quantize_channels(weight: Any, largest: Any, *, bits: int = 8, axes: Sequence[int]) -> Any:
    """Rounds each channel to multiples of its own step, `largest / (2^(bits - 1) - 1)`; the gradient is 1.

    TensorFlow's operation for it takes 5 to 20 times as long on a CPU.

    Args:
        weight: a floating-point tensor, whose magnitudes are at most `largest`.
        largest: of each channel, above 0, of shape `(channels,)`. No gradient reaches it.
        bits: 2 to 8.
        axes: the axes of the channels, as in `IntegerRange`.

    Returns:
        A tensor of the shape and dtype of `weight`.
    """
    largest = ops.stop_gradient(ops.cast(largest, "float32"))
    sizes = [size if axis in axes else 1 for axis, size in enumerate(weight.shape)]
    step = ops.reshape(largest, sizes) / (2.0 ** (bits - 1) - 1)
    values = ops.cast(weight, "float32")
    fixed = ops.stop_gradient(values)
    return ops.cast(ops.round(fixed / step) * step + (values - fixed), weight.dtype)


def symmetric_range(weight: Any, axes: Sequence[int] = ()) -> tuple[Any, Any]:
    """The narrow symmetric range of a weight, `(-m, m)` with `m = max |weight|` of the tensor or of each channel.

    A channel of zeros gets `(-1, 1)`.

    Args:
        weight: of any shape.
        axes: the axes of the channels.

    Returns:
        Two float32 tensors of shape `()` or `(channels,)`.
    """
    others = [axis for axis in range(len(weight.shape)) if axis not in axes]
    largest = ops.max(ops.abs(ops.cast(weight, "float32")), axis=others)
    largest = ops.reshape(largest, (-1,) if axes else ())
    largest = ops.where(largest > 0, largest, ops.ones_like(largest))
    return -largest, largest
