"""Tensors of a LiteRT file, with conversion of values: `real = scale * (integer - zero_point)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Attributes:
        name: its name in the file's signature.
        index: its index in the main graph.
        shape: its shape, batch first; None for an open dimension.
        dtype: the dtype of its content.
        scale: the step between two integers of a quantized tensor; 0.0 if the tensor is not quantized.
        zero_point: the integer that represents 0.0.
    """

    name: str
    index: int
    shape: tuple[int | None, ...]
    dtype: np.dtype
    scale: float = 0.0
    zero_point: int = 0

    @classmethod
    def from_details(cls, name: str, details: Mapping[str, Any]) -> Tensor:
        """The tensor that an entry of the interpreter's `get_input_details()` describes."""
        open_shape = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
        shape = tuple(None if size < 0 else int(size) for size in open_shape)
        scale, zero_point = details["quantization"]
        return cls(name, int(details["index"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))

    @property
    def is_quantized(self) -> bool:
        """Whether its integers represent real numbers, unlike token ids and class indices."""
        return bool(self.scale)

    def encode(self, values: Any) -> np.ndarray:
        """Converts values in the model's own scale to the content of this tensor.

        Real numbers are quantized if the tensor is quantized. Integers stay integers: a tensor of plain integers, such
        as token ids, does not accept floating-point values.

        Args:
            values: an array in the shape of the tensor.

        Raises:
            ConfigurationError: values that the tensor cannot hold without changing them.
        """
        values = np.asarray(values)
        if self.is_quantized:
            return quantize(values, self.scale, self.zero_point, self.dtype)
        if self.dtype.kind in "iu":
            self._check_integers(values)
        return np.ascontiguousarray(values, self.dtype)

    def decode(self, content: np.ndarray) -> np.ndarray:
        """Converts the content of this tensor to values in the model's own scale, dequantized if necessary."""
        return dequantize(content, self.scale, self.zero_point) if self.is_quantized else content

    def _check_integers(self, values: np.ndarray) -> None:
        limits = np.iinfo(self.dtype)
        problem = received = None
        if values.dtype.kind not in "iub":
            problem, received = f"The input {self.name!r} takes whole numbers.", str(values.dtype)
        elif values.size and (values.min() < limits.min or values.max() > limits.max):
            problem = f"The input {self.name!r} cannot hold these integers."
            received = f"{values.min()}..{values.max()}"
        if problem:
            expected = f"integers that fit into {self.dtype}, {limits.min}..{limits.max}"
            raise ConfigurationError(explain(problem, received=received, expected=expected))


def quantize(values: Any, scale: float, zero_point: int, dtype: Any) -> np.ndarray:
    """Quantizes real numbers, rounding half away from zero as LiteRT's QUANTIZE operator does.

    Values out of range are clipped to the range of `dtype`.

    Args:
        values: real numbers of any shape.
        scale: the tensor's scale, above 0.
        zero_point: the integer that represents 0.0.
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


def dequantize(values: Any, scale: float, zero_point: int) -> np.ndarray:
    """Dequantizes the integers of a quantized tensor to float32, in the shape of `values`.

    >>> dequantize(np.array([1, 3, 4], np.int8), scale=0.5, zero_point=3)
    array([-1. ,  0. ,  0.5], dtype=float32)
    """
    return np.float32(scale) * (np.asarray(values).astype(np.int32) - zero_point).astype(np.float32)
