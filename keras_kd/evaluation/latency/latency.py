"""Percentiles of run times, and ratios between models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_kd.errors import ConfigurationError, explain

_PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True)
class Latency:
    """The times of many single runs.

    Attributes:
        p50_ms: the median, in milliseconds.
        p90_ms, p95_ms, p99_ms: the 90th, 95th and 99th percentile, in milliseconds.
        mean_ms: the mean, in milliseconds.
        num_runs: the number of timed runs.
        num_threads: CPU threads of the runner; None if its framework chose.
        rounds_p50_ms: the median of each round, in milliseconds.
    """

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    num_runs: int
    num_threads: int | None
    rounds_p50_ms: tuple[float, ...]

    def __str__(self) -> str:
        threads = "" if self.num_threads is None else f", num_threads={self.num_threads}"
        return f"{self.p50_ms:.3g} ms (95% under {self.p95_ms:.3g} ms; {self.num_runs} runs{threads})"


@dataclass(frozen=True)
class Ratio:
    """How long a model takes in relation to another one, from rounds in which both took turns.

    Attributes:
        median: the median of the rounds; 2.0 is twice as long.
        low, high: the smallest and the largest one of all rounds.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f} to {self.high:.2f})"


def ratio(latency: Latency, reference: Latency) -> Ratio:
    """The ratio of the medians of two models, round by round.

    Raises:
        ConfigurationError: the models did not take turns.

    >>> str(ratio(summarize_times([[0.002], [0.006]]), summarize_times([[0.001], [0.002]])))
    '2.50x (2.00 to 3.00)'
    """
    numbers = len(latency.rounds_p50_ms), len(reference.rounds_p50_ms)
    if numbers[0] != numbers[1]:
        problem = "Only models that took turns have a ratio."
        raise ConfigurationError(explain(problem, received=f"{numbers[0]} and {numbers[1]} rounds"))
    pairs = zip(latency.rounds_p50_ms, reference.rounds_p50_ms, strict=True)
    ratios = [one / other if other else 1.0 if one == other else float("inf") for one, other in pairs]
    return Ratio(float(np.median(ratios)), min(ratios), max(ratios))


def summarize_times(rounds: Sequence[Sequence[float]], num_threads: int | None = None) -> Latency:
    """Percentiles (linear between neighbors) and mean of all run times, and the median of each round.

    Args:
        rounds: the seconds of each run, for each round.
        num_threads: CPU threads of the runner.

    >>> summarize_times([[0.001, 0.002, 0.003]]).p50_ms
    2.0
    """
    rounds_ms = [np.asarray(seconds) * 1000 for seconds in rounds]
    times_ms = np.concatenate(rounds_ms)
    percentiles = (float(one) for one in np.percentile(times_ms, _PERCENTS))
    medians = tuple(float(np.median(one)) for one in rounds_ms)
    return Latency(*percentiles, float(times_ms.mean()), len(times_ms), num_threads, medians)
