"""Which centroid is nearest to each weight, and the weights that the centroids give, by `keras.ops` alone.

Weights are passed in groups, a kernel as one group or each of its channels as one: `[groups, size]`, with centroids
`[groups, clusters]`.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def ascending(centroids: Any) -> Any:
    """The centroids of each group in ascending order; gradients reach the ones that were moved."""
    return _taken(centroids, ops.argsort(centroids, axis=-1))


def nearest(weights: Any, centroids: Any) -> Any:
    """The index of the centroid that is nearest to each weight; halfway between two, the smaller one.

    A binary search between the centroids: it takes log2(clusters) steps, and memory for the weights alone.

    Args:
        weights: `[groups, size]`.
        centroids: `[groups, clusters]`, in ascending order.

    Returns:
        int32 `[groups, size]`.

    >>> ops.convert_to_numpy(nearest(ops.array([[-3.0, 0.4, 0.5, 0.6]]), ops.array([[0.0, 1.0]]))).tolist()
    [[0, 0, 0, 1]]
    """
    levels = math.ceil(math.log2(centroids.shape[-1])) if centroids.shape[-1] > 1 else 0
    limits = centroids[:, :-1] + (centroids[:, 1:] - centroids[:, :-1]) / 2
    limits = ops.pad(limits, [(0, 0), (0, 2**levels - centroids.shape[-1])], constant_values=math.inf)
    index = ops.zeros(weights.shape, "int32")
    for level in reversed(range(levels)):
        is_above = weights > _taken(limits, index + (2**level - 1))
        index = index + 2**level * ops.cast(is_above, "int32")
    return index


def clustered(weights: Any, centroids: Any, *, has_gradient: bool = True) -> Any:
    """Each weight replaced by its nearest centroid.

    The gradient of a centroid is the mean of the gradients of its weights. A step of gradient descent on it is the one
    that is nearest to a step on the weights under the constraint that those of a cluster are equal, at the same
    learning rate. Weights have no gradient.

    Args:
        weights: `[groups, size]`.
        centroids: `[groups, clusters]`, in any order.
        has_gradient: whether the gradient is needed; False computes the values alone.

    Returns:
        `[groups, size]`, with at most `clusters` different values in each group.
    """
    centroids = ascending(centroids)
    index = nearest(ops.stop_gradient(weights), ops.stop_gradient(centroids))
    return _taken(_with_mean_gradient(centroids, index) if has_gradient else centroids, index)


def with_zero(centroids: Any) -> Any:
    """The centroids with the one of smallest magnitude in each group set to 0."""
    smallest = ops.argmin(ops.abs(ops.stop_gradient(centroids)), axis=-1)
    is_smallest = ops.arange(centroids.shape[-1]) == ops.expand_dims(ops.cast(smallest, "int32"), -1)
    return ops.where(is_smallest, ops.zeros_like(centroids), centroids)


def with_scaled_gradient(values: Any, scale: Any) -> Any:
    """The values, unchanged; their gradient is multiplied by `scale`, which broadcasts to their shape."""
    constant = ops.stop_gradient(values)
    return constant + (values - constant) * scale


def _with_mean_gradient(centroids: Any, index: Any) -> Any:
    """The centroids; their gradient is divided by the number of times that `index` takes them."""
    flat = ops.reshape(_flat(centroids.shape, index), (-1,))
    counts = ops.segment_sum(ops.ones(flat.shape, "float32"), flat, num_segments=math.prod(centroids.shape))
    counts = ops.reshape(ops.maximum(counts, 1.0), centroids.shape)
    return with_scaled_gradient(centroids, ops.cast(1.0 / counts, centroids.dtype))


def _taken(rows: Any, index: Any) -> Any:
    """`rows[g, index[g, i]]`."""
    return ops.take(ops.reshape(rows, (-1,)), _flat(rows.shape, index))


def _flat(shape: tuple[int, int], index: Any) -> Any:
    """The places of `[g, index[g, i]]` in a flat array."""
    return ops.cast(index, "int32") + ops.expand_dims(ops.arange(shape[0], dtype="int32") * shape[1], 1)
