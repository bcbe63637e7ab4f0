"""Times models in turn, so that their ratios hold on a machine whose speed changes."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.evaluation.latency.latency import Latency, summarize_times
from keras_kd.evaluation.runners import Runner
from keras_kd.litert.timing import time_runs

Clock = Callable[[], float]
Timer = Callable[[int, int, float], list[float]]  # (warmup, min_runs, min_seconds) -> the seconds of each run
Name = TypeVar("Name", bound=Hashable)


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
    sample: np.ndarray | Mapping[str, np.ndarray],
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
        sample: one example as a batch [1, ...]; or one for each name, if the models take different inputs.
        rounds: the number of turns per model, whose runs are pooled.
        warmup: the number of untimed runs before each turn.
        min_runs: the minimum number of timed runs per model, over all rounds.
        min_seconds: the minimum total time of the timed runs per model, over all rounds.
        clock: returns the time in seconds.

    Returns:
        A `Latency` per model, under the same names.

    Raises:
        ConfigurationError: a number is out of range, `runners` is empty, or a sample is missing or not a batch
            of one.
    """
    if not runners:
        problem, expected = "`runners` is empty.", "at least one"
        raise ConfigurationError(explain(problem, received="no runners", expected=expected))
    samples = _samples(sample, runners)
    settings = {"rounds": rounds, "warmup": warmup, "min_runs": min_runs, "min_seconds": min_seconds}
    check_settings(**settings)
    timers = {name: _timer(runner, samples[name], clock) for name, runner in runners.items()}
    times = take_turns(timers, **settings)
    return {name: summarize_times(times[name], runner.num_threads) for name, runner in runners.items()}


def take_turns(
    timers: Mapping[Name, Timer],
    *,
    rounds: int,
    warmup: int,
    min_runs: int,
    min_seconds: float,
    advance: Callable[[], Any] = lambda: None,
) -> dict[Name, list[list[float]]]:
    """Calls several timers in turn, A B C, A B C, ..., with their share of the runs; see `compare_latency`.

    Args:
        timers: by name, functions of the untimed runs, the minimum number of timed runs and their minimum seconds in
            total, which return the seconds of each timed run.
        rounds: the number of turns of each timer.
        warmup: the number of untimed runs before each turn.
        min_runs: the minimum number of timed runs of each timer, over all rounds.
        min_seconds: the minimum total time of the timed runs of each timer, over all rounds.
        advance: called after each turn.

    Returns:
        The seconds of each run, for each round, by name.

    Raises:
        ConfigurationError: a number is out of range.
    """
    check_settings(rounds=rounds, warmup=warmup, min_runs=min_runs, min_seconds=min_seconds)
    times: dict[Name, list[list[float]]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer(warmup, math.ceil(min_runs / rounds), min_seconds / rounds))
            advance()
    return times


def _timer(runner: Runner, sample: np.ndarray, clock: Clock) -> Timer:
    return functools.partial(time_runs, functools.partial(runner.run, runner.prepare(sample)), clock=clock)


def check_settings(**numbers: float) -> None:
    """Raises `ConfigurationError` for a number of `take_turns` that is out of range."""
    for name, number in numbers.items():
        check = check_number if name == "min_seconds" else check_integer
        check(name, number, at_least=1 if name in ("min_runs", "rounds") else 0)


def _samples(sample: Any, runners: Mapping[str, Runner]) -> Mapping[str, np.ndarray]:
    """The sample of each model by name."""
    samples = sample if isinstance(sample, Mapping) else dict.fromkeys(runners, sample)
    if missing := [name for name in runners if name not in samples]:
        problem, received = "`sample` lacks an example for a model.", f"none for {missing[0]!r}"
        expected = "one array for all models, or one for each name"
        raise ConfigurationError(explain(problem, received=received, expected=expected))
    for name in runners:
        check_sample(samples[name])
    return samples


def check_sample(sample: np.ndarray) -> None:
    """Raises `ConfigurationError` unless `sample` is a batch of one."""
    if np.ndim(sample) < 1 or len(sample) != 1:
        problem, fix = "`sample` must be a batch of one example.", "Keep the batch axis: `x[:1]`."
        received = f"shape {np.shape(sample)}"
        raise ConfigurationError(explain(problem, received=received, expected="(1, ...)", fix=fix))
