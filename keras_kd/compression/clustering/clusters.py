"""The centroids of one weight, as state that is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_kd.compression.clustering.centroids import clustered, with_zero
from keras_kd.compression.clustering.starts import first_centroids, lloyd
from keras_kd.compression.preserving import LEAST_ZEROS
from keras_kd.compression.pruning.masking import Mask
from keras_kd.compression.selection import MatrixView
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import register


@register
class Clusters(WeightFunction):
    """Replaces each weight by the nearest of a few centroids, which are trained.

    The optimizer trains the centroids, each with the mean of the gradients of its weights, and the weights themselves,
    with the gradients of the values that replace them; thus weights move to other clusters. What a layer runs on is
    computed from both in every forward pass, so it has at most `clusters` different values whatever the optimizer does.

    Of a weight with a tenth of zeros or more, the centroid of smallest magnitude is 0: zeros stay zeros. Of one that is
    pruned by a mask before it reaches this function, it is 0 from the first zero on.

    Args:
        clusters: the number of centroids, of each channel if there is a `view`.
        start, iterations, seed: as in `Clustering`.
        view: how the weight is read as a matrix whose outputs are the channels; None for one set of centroids.
        is_pruned: whether a mask comes before this function.
    """

    def __init__(
        self,
        clusters: int,
        *,
        start: str = "kmeans++",
        iterations: int = 0,
        seed: int = 0,
        view: MatrixView | None = None,
        is_pruned: bool = False,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.clusters, self.start_name, self.iterations, self.seed, self.view = clusters, start, iterations, seed, view
        self.is_pruned = is_pruned

    def build(self, shape):
        groups = 1 if self.view is None else self.view.matrix_shape(shape)[-1]
        self.centroids = self.add_weight(name="centroids", shape=(groups, self.clusters), initializer="zeros")

    def call(self, weight, training=False):
        groups = self._groups(ops.cast(weight, "float32"))
        centroids = ops.convert_to_tensor(self.centroids)
        zeros = ops.mean(ops.cast(groups == 0, "float32"))
        keeps_zeros = zeros > 0 if self.is_pruned else zeros >= LEAST_ZEROS
        centroids = ops.where(keeps_zeros, with_zero(centroids), centroids)
        replaced = ops.cast(
            self._weight(clustered(groups, centroids, has_gradient=bool(training)), tuple(weight.shape)), weight.dtype
        )
        if not training:
            return replaced
        return replaced + (weight - ops.stop_gradient(weight))  # adds 0, and the gradient of the weight

    def start(self, value):
        groups = ops.convert_to_numpy(self._groups(ops.convert_to_tensor(value.astype("float32"))))
        zeros = float(np.mean(groups == 0)) >= LEAST_ZEROS
        rng = np.random.default_rng(self.seed)
        self.centroids.assign(np.stack([self._first(group, rng, zeros) for group in groups]).astype("float32"))

    def after(self, functions, value):
        self.is_pruned = any(isinstance(function, Mask) for function in functions)
        if self.is_pruned and self.clusters == 2:
            raise ConfigurationError(
                explain(
                    "2 clusters are too few for a kernel that is pruned.",
                    received="clusters=2 after pruning",
                    expected="at least 3, one of which is 0",
                )
            )

    def _first(self, weights: np.ndarray, rng: np.random.Generator, keep_zero: bool) -> np.ndarray:
        first = first_centroids(weights, self.clusters, start=self.start_name, rng=rng, keep_zero=keep_zero)
        return lloyd(weights, first, self.iterations, keep_zero=keep_zero)

    def _groups(self, weight: Any) -> Any:
        """The weight as `[groups, size]`."""
        if self.view is None:
            return ops.reshape(weight, (1, -1))
        matrix = self.view.matrix(weight)
        return ops.transpose(ops.reshape(matrix, (-1, matrix.shape[-1])))

    def _weight(self, groups: Any, shape: tuple[int, ...]) -> Any:
        """The inverse of `_groups`."""
        if self.view is None:
            return ops.reshape(groups, shape)
        return self.view.kernel(ops.reshape(ops.transpose(groups), self.view.matrix_shape(shape)), shape)

    def get_config(self):
        return super().get_config() | {
            "clusters": self.clusters,
            "start": self.start_name,
            "iterations": self.iterations,
            "seed": self.seed,
            "view": self.view and self.view.get_config(),
            "is_pruned": self.is_pruned,
        }

    @classmethod
    def from_config(cls, config):
        view = config["view"]
        return cls(**config | {"view": view and MatrixView.from_config(view)})
