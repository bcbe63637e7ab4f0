"""Small numerics that the losses share."""

from __future__ import annotations

from typing import Any

from keras import ops


def upcast(*tensors: Any) -> list[Any]:
    """Tensors in float32, where half precision would overflow; float64 for all where one of them is."""
    tensors = [ops.convert_to_tensor(tensor) for tensor in tensors]
    dtype = "float64" if any("float64" in str(tensor.dtype) for tensor in tensors) else "float32"
    return [ops.cast(tensor, dtype) for tensor in tensors]


def flatten(features: Any) -> Any:
    """`[batch, ...]` to `[batch, features]`."""
    return ops.reshape(features, (ops.shape(features)[0], -1))


def safe_sqrt(squares: Any) -> Any:
    """The root of what is not negative, with a gradient of 0 (not infinity) at 0."""
    is_positive = squares > 0
    return ops.where(is_positive, ops.sqrt(ops.where(is_positive, squares, 1.0)), 0.0)


def l2_normalize(values: Any, axis: Any = -1, epsilon: float = 1e-12) -> Any:
    """Values over their Euclidean norm along `axis`, or over `epsilon` where that is larger.

    All zeros stay so, with a gradient of 1 rather than 1 / epsilon.
    """
    norm = safe_sqrt(ops.sum(ops.square(values), axis=axis, keepdims=True))
    return values / ops.where(norm > 0, ops.maximum(norm, epsilon), 1.0)


def non_negative(values: Any) -> Any:
    """Lifts what rounding pushed below 0 back to 0, and leaves the gradient as it is."""
    return values - ops.stop_gradient(ops.minimum(values, 0.0))


def pair_mask(present: Any, like: Any) -> Any:
    """`[batch, batch]`: 1 where both rows of a pair count, in the dtype of `like` (`[batch, ...]`).

    `present` is `[batch]`, or None where all rows count.
    """
    row = ops.ones_like(like[:, :1]) if len(like.shape) > 1 else ops.ones_like(like)[:, None]
    row = ops.reshape(row, (-1, 1)) if present is None else ops.reshape(ops.cast(present, like.dtype), (-1, 1))
    return row * ops.transpose(row)


def num_present_rows(pairs: Any) -> Any:
    """`[batch]`: how many rows count, for each row that counts, from `pair_mask`; 1 for the others."""
    return ops.maximum(ops.sum(pairs, axis=-1), 1.0)


def class_indices(labels: Any, num_axes: int) -> Any:
    """Class numbers of `num_axes` axes, from class numbers (a last axis of 1 may follow) or one-hot.

    A row without a label, -1 or a one-hot row without a 1, is -1.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == num_axes + 1:
        if labels.shape[-1] > 1:
            has_label = ops.max(labels, axis=-1) > 0
            return ops.where(has_label, ops.cast(ops.argmax(labels, axis=-1), "int32"), -1)
        labels = ops.squeeze(labels, axis=-1)
    return ops.cast(labels, "int32")
