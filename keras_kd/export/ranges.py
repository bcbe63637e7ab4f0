"""Calibration: the ranges of the tensors of a float32 LiteRT file, measured on real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.errors import check_choice
from keras_kd.litert import Observer, read_file

METHODS = ("min_max", "moving_average", "percentile", "mse")
MOMENTUM = 0.99
PERCENT = 99.99
_NUM_BINS = 2048
_SETTLED = 0.95
_SHRINKING = np.linspace(0.2, 1.0, 81)
_LEVELS = 255  # of 8 bits, whose zero is exact


@dataclass(frozen=True)
class Ranges:
    """The smallest and the largest value of each real tensor that a file computes.

    Attributes:
        values: the range (low, high) by the tensor's name.
        method: how it was chosen from the values seen, one of `METHODS`.
        num_samples: the number of examples.
        enough: the number of examples after which the ranges of smallest and largest value had, on average over the
            tensors, 95% of their final width. With more than half of `num_samples`, take more.
    """

    values: Mapping[str, tuple[float, float]] = field(repr=False)
    method: str
    num_samples: int
    enough: int

    @property
    def are_settled(self) -> bool:
        """Whether the second half of the samples hardly widened the ranges."""
        return 2 * self.enough <= self.num_samples

    def __str__(self) -> str:
        settled = f"settled after {self.enough}" if self.are_settled else "still growing: more samples may help"
        return f"{self.method} ranges of {len(self.values)} tensors on {self.num_samples} samples, {settled}"


def measure_ranges(source: str | Path | bytes, samples: Any, method: str = "min_max") -> Ranges:
    """Runs a float32 LiteRT file on samples and chooses a range for each tensor.

    Args:
        source: the path of a LiteRT file in float32, or its content.
        samples: an array [n, ...], or arrays by the names of the file's inputs, in the scale of the Keras model.
        method: "min_max": the smallest and the largest value, which nothing is clipped to. "moving_average": of the
            smallest and the largest value of each example, with a momentum of 0.99 (Jacob et al. 2018, section 3.1,
            arXiv:1712.05877). "percentile": 0.005% of the values are beyond each end (Wu et al. 2020,
            arXiv:2004.09602). "mse": the end points that, scaled by one factor, make the squared error of 8-bit
            rounding and clipping smallest (Nagel et al. 2021, section 3.1, arXiv:2106.08295). The last two read
            the samples twice and take the values from histograms of 2048 bins.

    Raises:
        ConfigurationError: an unknown method, a damaged file, or samples that it does not take.
    """
    check_choice("method", method, METHODS)
    observer = Observer(read_file(source).content)
    history = _extremes(_real(observer, samples))
    lows, highs = ({name: ends[:, side] for name, ends in history.items()} for side in (0, 1))
    widest = {name: (float(low.min()), float(highs[name].max())) for name, low in lows.items()}
    num_samples, size = observer.encode(samples)[1], observer.batch_size or 1
    if method == "moving_average":
        values = {name: (moving_average(low), moving_average(highs[name])) for name, low in lows.items()}
    elif method == "min_max":
        values = widest
    else:
        choose = {"percentile": percentile_range, "mse": mse_range}[method]
        values = _from_histograms(_real(observer, samples), widest, choose)
    return Ranges(values, method, num_samples, min(num_samples, size * _enough(history)))


def moving_average(values: np.ndarray, momentum: float = MOMENTUM) -> float:
    """The exponential moving average of values [n] in their order, which starts at the first one.

    >>> moving_average(np.array([1.0, 2.0]), momentum=0.5)
    1.5
    """
    average = float(values[0])
    for value in values[1:]:
        average = momentum * average + (1 - momentum) * float(value)
    return average


def percentile_range(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """The range that leaves an equal share of values on either side, `PERCENT` percent inside.

    Args:
        counts: the number of values in each bin [n].
        edges: the edges of the bins [n + 1].
    """
    share, below = (1 - PERCENT / 100) / 2, np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(share, below, edges)), float(np.interp(1 - share, below, edges))


def mse_range(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """The range, a fraction of the whole, with the smallest squared error after quantization to 8 bits.

    Args:
        counts: the number of values in each bin [n].
        edges: the edges of the bins [n + 1].
    """
    centers = (edges[:-1] + edges[1:]) / 2
    candidates = [(fraction * edges[0], fraction * edges[-1]) for fraction in _SHRINKING]
    errors = [np.dot(counts, (centers - _rounded(centers, *ends)) ** 2) for ends in candidates]
    low, high = candidates[len(errors) - 1 - int(np.argmin(errors[::-1]))]  # of equal ones the widest
    return float(low), float(high)


def _rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values after quantization to 8 bits in a range, which is widened to hold zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / _LEVELS or 1.0
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, _LEVELS) - zero) * step


def _real(observer: Observer, samples: Any) -> Iterator[dict[str, np.ndarray]]:
    for values in observer.values(samples):
        yield {name: value for name, value in values.items() if value.dtype.kind == "f" and value.size}


def _extremes(batches: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The smallest and largest value of each tensor in each batch [n, 2]."""
    found: dict[str, list[tuple[float, float]]] = {}
    for values in batches:
        for name, value in values.items():
            found.setdefault(name, []).append((float(value.min()), float(value.max())))
    return {name: np.array(ends) for name, ends in found.items()}


def _from_histograms(
    batches: Iterator[dict[str, np.ndarray]],
    widest: Mapping[str, tuple[float, float]],
    choose: Callable[[np.ndarray, np.ndarray], tuple[float, float]],
) -> dict[str, tuple[float, float]]:
    edges = {name: np.linspace(low, high, _NUM_BINS + 1) for name, (low, high) in widest.items() if low < high}
    counts = {name: np.zeros(_NUM_BINS) for name in edges}
    for values in batches:
        for name in counts:
            counts[name] += np.histogram(values[name], edges[name])[0]
    return dict(widest) | {name: choose(counts[name], edges[name]) for name in counts}


def _enough(history: Mapping[str, np.ndarray]) -> int:
    """The number of batches after which the widths are settled; see `Ranges.enough`."""
    shares = []
    for ends in history.values():
        widths = np.maximum.accumulate(ends[:, 1]) - np.minimum.accumulate(ends[:, 0])
        if widths[-1] > 0:
            shares.append(widths / widths[-1])
    if not shares:
        return 1
    return int(np.argmax(np.mean(shares, axis=0) >= _SETTLED)) + 1
