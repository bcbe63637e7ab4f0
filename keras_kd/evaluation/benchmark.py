"""Latency: the time that a model takes for one example."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.evaluation.runners import Runner, TFLiteRunner
from keras_kd.export import Converter, export_tflite

Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """The times of many single runs.

    Attributes:
        p50_ms: the median, in milliseconds.
        p95_ms: the 95th percentile, in milliseconds.
        mean_ms: the mean, in milliseconds.
        num_runs: the number of timed runs.
        num_threads: CPU threads of the runner; None if its framework chose.
    """

    p50_ms: float
    p95_ms: float
    mean_ms: float
    num_runs: int
    num_threads: int | None

    def __str__(self) -> str:
        threads = "" if self.num_threads is None else f", num_threads={self.num_threads}"
        return f"{self.p50_ms:.3g} ms (95% under {self.p95_ms:.3g} ms; {self.num_runs} runs{threads})"


def measure_latency(
    runner: Runner,
    sample: np.ndarray,
    *,
    warmup: int = 20,
    min_runs: int = 100,
    min_seconds: float = 0.3,
    clock: Clock = time.perf_counter,
) -> Latency:
    """Times single runs of one example, for a minimum number of runs and a minimum duration.

    The time is that of `runner.run`: copy the input in, run inference, copy the output out. `runner.prepare` is called
    once, outside of the timing.

    Args:
        runner: the model.
        sample: one example as a batch [1, ...], in the scale that the Keras model takes.
        warmup: the number of untimed runs before the timing.
        min_runs: the minimum number of timed runs.
        min_seconds: the minimum total time of the timed runs, in seconds.
        clock: returns the time in seconds.

    Raises:
        ConfigurationError: a number is out of range, or the sample is not a batch of one.
    """
    return compare_latency(
        {runner.name: runner},
        sample,
        rounds=1,
        warmup=warmup,
        min_runs=min_runs,
        min_seconds=min_seconds,
        clock=clock,
    )[runner.name]


def compare_latency(
    runners: Mapping[str, Runner],
    sample: np.ndarray,
    rounds: int = 5,
    *,
    warmup: int = 20,
    min_runs: int = 100,
    min_seconds: float = 0.3,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Times several models in turn, A B C, A B C, ..., so that a slowdown of the machine affects all of them.

    Args:
        runners: the models by name.
        sample: one example as a batch [1, ...].
        rounds: the number of turns per model, whose runs are pooled.
        warmup: the number of untimed runs before each turn.
        min_runs: the minimum number of timed runs per model, over all rounds.
        min_seconds: the minimum total time of the timed runs per model, over all rounds.
        clock: returns the time in seconds.

    Returns:
        A `Latency` per model, under the same names.

    Raises:
        ConfigurationError: a number is out of range, there are no runners, or the sample is not a batch of one.
    """
    _check_settings(runners, sample, rounds=rounds, warmup=warmup, min_runs=min_runs, min_seconds=min_seconds)
    prepared = {name: runner.prepare(sample) for name, runner in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            for _ in range(warmup):
                runner.run(prepared[name])
            runs, seconds = math.ceil(min_runs / rounds), min_seconds / rounds
            times[name] += time_runs(runner, prepared[name], runs, seconds, clock)
    return {name: summarize_times(times[name], runner.num_threads) for name, runner in runners.items()}


def litert_latency(
    sample: np.ndarray, *, num_threads: int = 1, converter: Converter | None = None, **settings: float
) -> Callable[[keras.Model], float]:
    """A function that measures models: from a Keras model to the median seconds of its float32 TFLite file.

    It is the `measure` of `kd.compression.ChannelPruning(latency=0.5, measure=litert_latency(x[:1]))`.

    Args:
        sample: one example as a batch [1, ...], in the scale that the models take.
        num_threads: CPU threads of LiteRT.
        converter: a `kd.export.Converter`, whose child process serves all models; None starts one for each.
        settings: further ones of `measure_latency`, such as `min_runs`.

    Raises:
        ConfigurationError: a number is out of range, or the sample is not a batch of one.
        ExportError: when called with a model that cannot be exported.
    """

    def measure(model: keras.Model) -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = export_tflite(model, Path(folder) / "model.tflite", samples=sample, converter=converter).path
            runner = TFLiteRunner(file, num_threads=num_threads)
            return measure_latency(runner, sample, **settings).p50_ms / 1000

    check_integer("num_threads", num_threads, at_least=1)
    _check_sample(sample)
    return measure


def time_runs(runner: Runner, prepared, min_runs: int, min_seconds: float, clock: Clock) -> list[float]:
    """The seconds of each run, for at least `min_runs` runs and `min_seconds` in total."""
    times, total = [], 0.0
    while len(times) < min_runs or total < min_seconds:
        start = clock()
        runner.run(prepared)
        times.append(clock() - start)
        total += times[-1]
    return times


def summarize_times(seconds: list[float], num_threads: int | None = None) -> Latency:
    """Median, 95th percentile (linear between neighbors) and mean of run times.

    >>> summarize_times([0.001, 0.002, 0.003]).p50_ms
    2.0
    """
    times_ms = np.asarray(seconds) * 1000
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Latency(float(p50), float(p95), float(times_ms.mean()), len(times_ms), num_threads)


def _check_settings(runners: Mapping[str, Runner], sample: np.ndarray, **numbers: float) -> None:
    for name, number in numbers.items():
        check = check_number if name == "min_seconds" else check_integer
        check(name, number, at_least=1 if name in ("min_runs", "rounds") else 0)
    if not runners:
        problem, expected = "`runners` is empty.", "at least one"
        raise ConfigurationError(explain(problem, received="no runners", expected=expected))
    _check_sample(sample)


def _check_sample(sample: np.ndarray) -> None:
    if np.ndim(sample) < 1 or len(sample) != 1:
        problem, fix = "`sample` must be a batch of one example.", "Keep the batch axis: `x[:1]`."
        received = f"shape {np.shape(sample)}"
        raise ConfigurationError(explain(problem, received=received, expected="(1, ...)", fix=fix))
