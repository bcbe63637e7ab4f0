"""Between real numbers and the integers of a TFLite tensor: `real = scale * (integer - zero_point)`."""

from __future__ import annotations

from typing import Any

import numpy as np


def quantize(values: np.ndarray, scale: float, zero_point: int, dtype: Any) -> np.ndarray:
    """Real numbers as the integers of a tensor, as TFLite's reference kernel computes them.

    `clip(round(values / scale) + zero_point)`, where a half is rounded away from zero, and not to the even
    number as NumPy does. The quotient is taken in float32.

    Args:
        values: real numbers, any shape, finite.
        scale: the tensor's scale, above 0.
        zero_point: the integer that stands for 0.0.
        dtype: the tensor's integer dtype.

    Returns:
        An array of `dtype` in the shape of `values`.

    >>> quantize(np.array([-1.0, 0.0, 0.25, 9.0]), scale=0.5, zero_point=3, dtype=np.int8)
    array([ 1,  3,  4, 21], dtype=int8)
    """
    quotient = (np.asarray(values, np.float32) / np.float32(scale)).astype(np.float64)
    rounded = np.trunc(quotient + np.copysign(0.5, quotient)) + zero_point
    limits = np.iinfo(dtype)
    return np.clip(rounded, limits.min, limits.max).astype(dtype)


def dequantize(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """The integers of a tensor as real numbers: float32, in the shape of `values`.

    >>> dequantize(np.array([1, 3, 4], np.int8), scale=0.5, zero_point=3)
    array([-1. ,  0. ,  0.5], dtype=float32)
    """
    return np.float32(scale) * (np.asarray(values).astype(np.int32) - zero_point).astype(np.float32)


def to_tensor(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Real `values` in the dtype of an interpreter's tensor, quantised where the tensor is.

    Args:
        values: an array in the model's own input scale.
        details: one entry of the interpreter's `get_input_details()`.
    """
    scale, zero_point = details["quantization"]
    if scale:
        return quantize(values, scale, zero_point, details["dtype"])
    return np.asarray(values).astype(details["dtype"], copy=False)


def from_tensor(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """An output tensor's content as real numbers: dequantised where the tensor is quantised.

    Args:
        values: the tensor's content.
        details: the entry of the interpreter's `get_output_details()` that it belongs to.
    """
    scale, zero_point = details["quantization"]
    return dequantize(values, scale, zero_point) if scale else values
