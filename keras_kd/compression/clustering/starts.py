"""The first centroids of a set of weights, and Lloyd's iterations on them, in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_GRID_POINTS = 30  # of the distribution function, as in TFMOT
_GAP = 0.01  # on either side of the weights, as in TFMOT


def linear(weights: np.ndarray, clusters: int) -> np.ndarray:
    """Centroids at equal distances from the smallest weight to the largest.

    Source: S. Han, H. Mao & W. Dally, "Deep Compression", 2016, section 3.1; the same numbers as TFMOT's.

    >>> linear(np.array([-1.0, 0.2, 1.0]), 3).tolist()
    [-1.0, 0.0, 1.0]
    """
    return np.linspace(weights.min(), weights.max(), clusters)


def density(weights: np.ndarray, clusters: int, gap: float = _GAP) -> np.ndarray:
    """Centroids at equal distances of the weights' distribution function, more of them where more weights are.

    Source: S. Han, H. Mao & W. Dally, "Deep Compression", 2016, section 3.1. The same numbers as TFMOT's, where a
    centroid is a point of a grid of 30; several centroids may be equal.
    """
    grid = np.linspace(weights.min() - gap, weights.max() + gap, _GRID_POINTS)
    distribution = np.searchsorted(np.sort(weights), grid, side="right") / weights.size
    levels = np.linspace(0.01, 1.0, clusters)
    return grid[np.minimum(np.searchsorted(distribution, levels, side="right"), _GRID_POINTS - 1)]


def random(weights: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Centroids drawn uniformly between the smallest weight and the largest."""
    return rng.uniform(weights.min(), weights.max(), clusters)


def kmeans_plus_plus(weights: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Weights drawn one after the other with a probability proportional to the squared distance from those drawn.

    Source: D. Arthur & S. Vassilvitskii, "k-means++: the advantages of careful seeding", 2007.
    """
    centroids = [weights[rng.integers(weights.size)]]
    distances = np.full(weights.shape, np.inf)
    for _ in range(1, clusters):
        distances = np.minimum(distances, (weights - centroids[-1]) ** 2)
        total = np.cumsum(distances)
        drawn = np.searchsorted(total, rng.random() * total[-1], side="right")
        centroids.append(weights[min(drawn, weights.size - 1)])
    return np.array(centroids)


STARTS: dict[str, Callable[[np.ndarray, int, np.random.Generator, float], np.ndarray]] = {
    "kmeans++": lambda weights, clusters, rng, gap: kmeans_plus_plus(weights, clusters, rng),
    "density": lambda weights, clusters, rng, gap: density(weights, clusters, gap),
    "linear": lambda weights, clusters, rng, gap: linear(weights, clusters),
    "random": lambda weights, clusters, rng, gap: random(weights, clusters, rng),
}


def first_centroids(
    weights: np.ndarray, clusters: int, *, start: str, rng: np.random.Generator, keep_zero: bool = False
) -> np.ndarray:
    """The `clusters` centroids of a set of weights, in ascending order.

    Args:
        weights: `[n]`.
        clusters: at least 1, and at least 3 with `keep_zero`.
        start: one of `STARTS`.
        rng: the source of `"kmeans++"` and `"random"`.
        keep_zero: whether one of the centroids is 0. The others are divided between the negative and the positive
            weights in proportion to their number, as in TFMOT.

    Returns:
        float64 `[clusters]`.
    """
    weights = weights.astype("float64")
    make = STARTS[start]
    if not keep_zero:
        return np.sort(make(weights, clusters, rng, _GAP))
    sides = weights[weights < 0], weights[weights > 0]
    total = sides[0].size + sides[1].size
    negative = int(np.round((clusters - 1) * (sides[0].size / max(total, 1))))
    centroids = [0.0]
    for side, share in zip(sides, (negative, clusters - 1 - negative), strict=True):
        if side.size and share:
            centroids.extend(make(side, share, rng, min(_GAP, abs(side.min()) / 2, abs(side.max()) / 2)))
    return np.sort(centroids + [0.0] * (clusters - len(centroids)))


def lloyd(weights: np.ndarray, centroids: np.ndarray, iterations: int, *, keep_zero: bool = False) -> np.ndarray:
    """Moves each centroid to the mean of the weights that are nearest to it, up to `iterations` times.

    A centroid without weights stays where it is. The sum of squared distances does not rise.

    Source: S. Lloyd, "Least squares quantization in PCM", 1982.

    Args:
        weights: `[n]`.
        centroids: `[clusters]`.
        iterations: fewer if nothing moves any more.
        keep_zero: whether a centroid at 0 stays there.

    Returns:
        float64 `[clusters]`, in ascending order.

    >>> lloyd(np.array([0.0, 1.0, 10.0]), np.array([0.0, 2.0]), 10).tolist()
    [0.5, 10.0]
    """
    ordered = np.sort(weights.astype("float64"))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.sort(centroids.astype("float64"))
    for _ in range(iterations):
        limits = (centroids[1:] + centroids[:-1]) / 2
        edges = np.concatenate([[0], np.searchsorted(ordered, limits, side="right"), [ordered.size]])
        counts = np.diff(edges)
        moves = (counts > 0) & ~(keep_zero & (centroids == 0))
        moved = np.where(moves, np.diff(sums[edges]) / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = np.sort(moved)
    return centroids
