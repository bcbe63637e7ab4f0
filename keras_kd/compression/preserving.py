"""Which weight functions keep the structure that earlier techniques left in a weight."""

from __future__ import annotations

import numpy as np

from keras_kd.compression.clustering.fixed import FixedClusters, cluster_axes, num_clusters
from keras_kd.compression.weight_functions import FixedZeros, WeightFunction

LEAST_ZEROS = 0.1


def preserved(value: np.ndarray, name: str) -> tuple[list[WeightFunction], list[str]]:
    """The functions that keep the structure of a weight, and what each keeps, in words.

    A weight of which at least a tenth, but not all, is exactly zero counts as pruned. What counts as clustered is said
    in `cluster_axes`.

    Args:
        value: of the weight.
        name: of the weight, a prefix of the functions' names.
    """
    functions: list[WeightFunction] = []
    kept: list[str] = []
    zeros = float(np.mean(value == 0))
    if LEAST_ZEROS <= zeros < 1.0:
        functions.append(FixedZeros(name=f"{name}_zeros"))
        kept.append(f"{100 * zeros:.0f}% zeros")
    axes = cluster_axes(value)
    if axes is not None:
        functions.append(FixedClusters(name=f"{name}_fixed_clusters"))
        kept.append(f"{num_clusters(value)} values{' in a channel' if axes else ''}")
    return functions, kept
