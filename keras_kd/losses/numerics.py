"""Numerical helpers shared by the losses."""

from __future__ import annotations

from typing import Any

from keras import ops


def upcast(*tensors: Any) -> list[Any]:
    """Casts tensors to float32, since half precision would overflow, or all to float64 if any of them is float64."""
    tensors = [ops.convert_to_tensor(tensor) for tensor in tensors]
    dtype = "float64" if any("float64" in str(tensor.dtype) for tensor in tensors) else "float32"
    return [ops.cast(tensor, dtype) for tensor in tensors]


def flatten(features: Any) -> Any:
    """Flattens `[batch, ...]` to `[batch, features]`."""
    return ops.reshape(features, (ops.shape(features)[0], -1))


def safe_sqrt(squares: Any) -> Any:
    """The square root of non-negative values, with a gradient of 0 instead of infinity at 0."""
    is_positive = squares > 0
    return ops.where(is_positive, ops.sqrt(ops.where(is_positive, squares, 1.0)), 0.0)


def l2_normalize(values: Any, axis: Any = -1) -> Any:
    """Divides values by their Euclidean norm along `axis`, or by 1e-12 if that is larger.

    A zero vector stays zero, with a gradient of 1 rather than 1e12.
    """
    norm = safe_sqrt(ops.sum(ops.square(values), axis=axis, keepdims=True))
    return values / ops.where(norm > 0, ops.maximum(norm, 1e-12), 1.0)


def non_negative(values: Any) -> Any:
    """Raises values that rounding pushed below 0 back to 0, leaving their gradient unchanged."""
    return values - ops.stop_gradient(ops.minimum(values, 0.0))
