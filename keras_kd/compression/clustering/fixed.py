"""Keeps which weights of a kernel are equal, while their values are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_kd.compression.clustering.centroids import with_scaled_gradient
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.serialization import register

_MOST_VALUES = 256
_LEAST_REPEATS = 4
_SAMPLE = 4096


@register
class FixedClusters(WeightFunction):
    """Keeps the clusters of a clustered weight: weights that are equal when it starts stay equal.

    The first weight of each cluster is trained, with the mean of the gradients of all, and replaces the others. Hence
    the weight has its exact value at the start, and no more different values than then, whatever the optimizer does.
    """

    def build(self, shape):
        self.first = self.add_weight(name="first", shape=shape, initializer="zeros", dtype="int32", trainable=False)
        self.share = self.add_weight(name="share", shape=shape, initializer="ones", dtype="float32", trainable=False)

    def call(self, weight, training=False):
        values = ops.take(ops.reshape(weight, (-1,)), ops.convert_to_tensor(self.first))
        share = ops.convert_to_tensor(self.share)
        return with_scaled_gradient(values, ops.cast(share, values.dtype)) if training else values

    def start(self, value):
        axes = cluster_axes(value)
        first = _first_equal(value, () if axes is None else axes)
        self.first.assign(first)
        self.share.assign((1.0 / np.bincount(first.ravel(), minlength=first.size)[first]).astype("float32"))


def cluster_axes(value: np.ndarray) -> tuple[int, ...] | None:
    """The axes of the channels that have clusters of their own, `()` for one set of clusters; None without clusters.

    A kernel, or each of its channels, is clustered if it has 2 to 256 different values that are not zero, each 4 times
    on average. Trained float weights are not: their values hardly repeat.

    >>> cluster_axes(np.array([[0.5, 0.25, 0.5, 0.25], [0.25, 0.5, 0.5, 0.25]]))
    ()
    >>> cluster_axes(np.random.default_rng(0).normal(size=(100, 10))) is None
    True
    """
    last = value.ndim - 1
    for axes in ((), (last,), (last - 1,), (last - 1, last)):
        if len(axes) < value.ndim and all(map(_is_clustered, _channels(value, axes))):
            return axes
    return None


def num_clusters(value: np.ndarray) -> int:
    """The number of different values of a clustered kernel, zero included; the largest of those of its channels."""
    return max(len(np.unique(channel)) for channel in _channels(value, cluster_axes(value) or ()))


def _channels(value: np.ndarray, axes: tuple[int, ...]) -> Any:
    """The weights of each channel, one after the other."""
    moved = np.moveaxis(value, axes, range(len(axes)))
    return moved.reshape((int(np.prod(moved.shape[: len(axes)])), -1))


def _is_clustered(weights: np.ndarray) -> bool:
    if len(np.unique(weights[:_SAMPLE])) > _MOST_VALUES + 1:
        return False
    weights = weights[weights != 0]
    different = len(np.unique(weights))
    return 2 <= different <= _MOST_VALUES and weights.size >= _LEAST_REPEATS * different


def _first_equal(value: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """For each weight, the position in the flat kernel of the first weight of its channel that is equal to it."""
    positions = _channels(np.arange(value.size).reshape(value.shape), axes)
    found = np.empty(value.size, "int32")
    for weights, place in zip(_channels(value, axes), positions, strict=True):
        _, first, inverse = np.unique(weights, return_index=True, return_inverse=True)
        found[place] = place[first][inverse.reshape(-1)]
    return found.reshape(value.shape)
