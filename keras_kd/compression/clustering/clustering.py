"""Weight clustering: the weights of a kernel share a few values."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from keras import ops

from keras_kd.compression.clustering.clusters import Clusters
from keras_kd.compression.clustering.starts import STARTS
from keras_kd.compression.preserving import LEAST_ZEROS
from keras_kd.compression.selection import matrix_view
from keras_kd.compression.transform import WeightTransform
from keras_kd.errors import ConfigurationError, check_choice, check_integer, explain
from keras_kd.surgery.weights import weights_by_name


class Clustering(WeightTransform):
    """Gives each kernel and embedding table at most `clusters` different values.

        cluster = kd.compression.Clustering(16)
        shared = cluster.apply(student)
        kd.Distiller(teacher, shared).fit(...)
        small = cluster.strip(shared)

    The values are centroids of the weights, and are trained: the gradient of a centroid is the mean of those of its
    weights, so that a learning rate that suits the weights suits the centroids. (In the paper it is the sum, which for
    a cluster of 5,000 weights is 5,000 times the step; with SGD such a training diverges.) The weights behind them are
    trained as well (straight-through), and each uses the centroid nearest to it, so that weights move between clusters.
    In every forward pass, in what `strip` returns and in what is exported, a kernel has at most `clusters` different
    values, whatever the optimizer does.

    A kernel of which a tenth or more is exactly zero keeps these zeros: one of the clusters is 0 and is not trained.

    Clusters make a compressed file smaller (`gzip`, an app package), but neither shrink the `.tflite` file
    nor speed it up.

    Source: S. Han, H. Mao & W. Dally, "Deep Compression: compressing deep neural networks with pruning, trained
    quantization and Huffman coding", 2016.

    Args:
        clusters: how many values, at least 2, the zero included.
        start: where the centroids start: `"kmeans++"`, `"density"` (more of them where more weights are), `"linear"`
            (at equal distances, which keeps the few large weights well) or `"random"`.
        iterations: of Lloyd's algorithm on the start; 0 leaves the start as it is, as TFMOT does.
        per_channel: whether each output channel has `clusters` values of its own.
        seed: of the starts that draw.
        skip: the paths of layers that stay as they are.

    Raises:
        ConfigurationError: a setting out of range.
    """

    def __init__(
        self,
        clusters: int = 16,
        *,
        start: str = "kmeans++",
        iterations: int = 20,
        per_channel: bool = False,
        seed: int = 0,
        skip: Collection[str] = (),
    ):
        super().__init__(skip)
        self.clusters = check_integer("clusters", clusters, at_least=2)
        self.start = check_choice("start", start, STARTS)
        self.iterations = check_integer("iterations", iterations, at_least=0)
        self.per_channel = _checked_switch("per_channel", per_channel)
        self.seed = check_integer("seed", seed, at_least=0)

    def function(self, layer, weight, calls):
        value = ops.convert_to_numpy(weights_by_name(layer)[weight]).astype("float32")
        view = matrix_view(layer, weight) if self.per_channel else None
        if self.per_channel and view is None:
            return "no output channels"
        size = value.size if view is None else math.prod(view.matrix_shape(value.shape)[:-1])
        if problem := self._misfit(value, size):
            return problem
        return Clusters(
            self.clusters,
            start=self.start,
            iterations=self.iterations,
            seed=self.seed,
            view=view,
            name=f"{weight.replace('/', '_')}_clusters",
        )

    def _misfit(self, value: np.ndarray, size: int) -> str | None:
        if size <= self.clusters:
            return f"{size} weights{' in a channel' if self.per_channel else ''}, for {self.clusters} clusters"
        if value.min() == value.max():
            return f"all weights are {value.flat[0]:g}"
        if self.clusters == 2 and np.mean(value == 0) >= LEAST_ZEROS:
            return "2 clusters are too few for a kernel with zeros, which take one of them"
        return None


def _checked_switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):  # 1 and 0 equal True and False
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(value), expected="True or False"))
    return value
