"""Calibration of a classifier (confidence against accuracy): bins, ECE, temperature scaling, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

NUM_BINS = 15  # as in Guo et al.'s tables
TEMPERATURE_RANGE = (0.05, 100.0)  # from logits times 20 to almost uniform; beyond, nothing changes noticeably
_ROWS_AT_ONCE = 4096  # keeps the float64 copies small relative to the logits
_Z95 = 1.959963984540054  # standard normal quantile of a two-sided 95% interval


class ReliabilityBins(NamedTuple):
    """Examples binned by confidence: bins of equal width from 0 to 1, each including its upper edge.

    Attributes:
        confidence: the mean confidence in each bin, None if the bin is empty.
        accuracy: the share of correct predictions in each bin, None if the bin is empty.
        count: the number of examples in each bin.
    """

    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    count: tuple[int, ...]


def reliability_bins(confidence: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> ReliabilityBins:
    """Bins `((m - 1) / M, m / M]` of the confidence (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Args:
        confidence: `[n]`, the probability of the predicted class, 0 to 1.
        right: `[n]`, whether the prediction is correct.
        num_bins: M.

    >>> reliability_bins(np.array([0.2, 0.9, 0.7]), np.array([False, True, False]), num_bins=2)
    ReliabilityBins(confidence=(0.2, 0.8), accuracy=(0.0, 0.5), count=(1, 2))
    """
    places = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins).tolist()
    sums = (np.bincount(places, weights=values, minlength=num_bins).tolist() for values in (confidence, right))
    means = (tuple(s / n if n else None for s, n in zip(bins, counts, strict=True)) for bins in sums)
    return ReliabilityBins(*means, count=tuple(counts))


def calibration_error(bins: ReliabilityBins) -> float:
    """`ECE = sum_m(n_m / n * |accuracy_m - confidence_m|)`, 0 to 1 (Guo et al., 2017).

    >>> calibration_error(ReliabilityBins((0.2, 0.75), (0.0, 0.5), (1, 3))).__round__(4)
    0.2375
    """
    return sum(n * abs(accuracy - confidence) for confidence, accuracy, n in _filled(bins)) / sum(bins.count)


def chance_calibration_error(bins: ReliabilityBins) -> float:
    """The expected ECE of a perfectly calibrated classifier, which is above 0 because the bins are finite.

    The accuracy of a bin with mean confidence c varies around c with variance `c (1 - c) / n_m`, and its mean absolute
    deviation is `sqrt(2 / pi)` standard deviations (normal approximation).

    >>> [chance_calibration_error(ReliabilityBins((0.8,), (0.8,), (n,))).__round__(3) for n in (10, 1000)]
    [0.101, 0.01]
    """
    spreads = (math.sqrt(2 / math.pi * n * confidence * (1 - confidence)) for confidence, _, n in _filled(bins))
    return sum(spreads) / sum(bins.count)


def log_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """`log softmax(logits / temperature)` over the last axis, in float64.

    >>> log_probabilities(np.array([1000.0, 0.0])).tolist()
    [0.0, -1000.0]
    """
    from scipy.special import log_softmax

    return log_softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


def confidences(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The probability of the top class, `[n]`, from logits `[n, C]` divided by a temperature."""
    return np.concatenate([np.exp(log_probabilities(rows, temperature).max(axis=1)) for (rows,) in _blocks(logits)])


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which `softmax(logits / T)` has the lowest negative log-likelihood.

    Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017). The negative log-likelihood is
    convex in `1 / T`, with slope `mean(sum_c(p_c z_c) - z_label)`; Brent's method finds its root.

    Args:
        logits: `[n, C]`, finite; computed on data that the classifier was not trained on.
        labels: `[n]`, integers.

    Returns:
        A number in `TEMPERATURE_RANGE`. If the likelihood still grows at an end of the range, that end: the lower one
        if all predictions are correct, the upper one if they are no better than chance.

    >>> logits = np.array([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    >>> best_temperature(logits, np.array([0, 0, 1])).__round__(4)  # 3 / T = log(2), for the odds of 2 to 1
    4.3281
    """
    from scipy.optimize import brentq

    low, high = TEMPERATURE_RANGE
    if _slope(high, logits, labels) >= 0:
        return high
    if _slope(low, logits, labels) <= 0:
        return low
    return brentq(_slope, low, high, args=(logits, labels))


def wilson_interval(share: float, num_examples: int) -> tuple[float, float]:
    """The 95% score interval of a share of examples (Wilson, "Probable Inference", 1927).

    >>> [round(end, 4) for end in wilson_interval(0.9, 100)]
    [0.8256, 0.9448]
    """
    weight = _Z95**2 / num_examples
    half = _Z95 * math.sqrt(share * (1 - share) / num_examples + weight / (4 * num_examples))
    low, high = (share + weight / 2 - half) / (1 + weight), (share + weight / 2 + half) / (1 + weight)
    return max(0.0, low), min(1.0, high)


def _slope(temperature: float, logits: np.ndarray, labels: np.ndarray) -> float:
    """The derivative of the mean negative log-likelihood with respect to `1 / T`."""
    total = 0.0
    for z, y in _blocks(logits, labels):
        z = z.astype(np.float64)
        mean = (np.exp(log_probabilities(z, temperature)) * z).sum(axis=1)
        total += float((mean - z[np.arange(len(y)), y]).sum())
    return total / len(labels)


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, len(arrays[0]), _ROWS_AT_ONCE):
        yield tuple(array[start : start + _ROWS_AT_ONCE] for array in arrays)


def _filled(bins: ReliabilityBins) -> list[tuple[float, float, int]]:
    return [row for row in zip(*bins, strict=True) if row[-1]]
