"""Benchmarks files of models, each in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.evaluation.latency import _keras_model
from keras_kd.evaluation.latency.comparing import check_settings, take_turns
from keras_kd.evaluation.latency.latency import ratio, summarize_times
from keras_kd.evaluation.latency.result import Benchmark
from keras_kd.evaluation.latency.speed import Speed
from keras_kd.litert import read_file
from keras_kd.litert.timing import FILE_SCRIPT, CrossCheck, Profile, TimedChild, litert_benchmark, profile_file
from keras_kd.model_files import check_file
from keras_kd.progress import bar

_KERAS_SCRIPT = Path(_keras_model.__file__)
_SECONDS_WITHOUT_BAR = 2.0
_KERAS_IMPORT_SECONDS = 120.0  # of a process on a busy machine, before it loads the model
_Key = tuple[str, int]  # the name of a model, and a number of threads


@dataclass(frozen=True)
class _Entry:
    """A file to benchmark."""

    name: str
    path: Path

    @property
    def is_keras(self) -> bool:
        return self.path.suffix == ".keras"

    @property
    def runtime(self) -> str:
        if self.is_keras:
            return f"Keras {keras.__version__} on {keras.backend.backend()}"
        return f"LiteRT {version('ai-edge-litert')}"

    @property
    def obeys_threads(self) -> bool:
        return not self.is_keras or keras.backend.backend() == "tensorflow"


class _FailedError(Exception):
    """A model failed while it was timed."""

    def __init__(self, name: str, problem: str):
        super().__init__(problem)
        self.name = name


def benchmark_models(
    files: Sequence[str | Path],
    *,
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    warmup: int = 3,
    min_runs: int = 100,
    min_seconds: float = 1.0,
    open_size: int = 1,
    profile: bool = True,
    cross_check: bool = True,
    timeout_s: float = 60.0,
    progress: bool = True,
) -> Benchmark:
    """Measures LiteRT (`.tflite`) and Keras (`.keras`) files on the CPU: loading, first run, runs, memory, operators.

    Each model runs in a process of its own for each number of threads, with random inputs of its types and shapes and a
    batch of one, unless the file takes another one. All processes are there from the start; their runs take turns, and
    ratios are computed within a round, so that they hold on a machine that is busy with other work. A model that fails
    does not end the benchmark.

    Args:
        files: paths; the first one that can be measured is what the others are compared with.
        threads: numbers of CPU threads. Of Keras' backends, only TensorFlow obeys.
        rounds: the number of turns.
        warmup: the number of untimed runs before each turn.
        min_runs: the minimum number of timed runs, over all rounds.
        min_seconds: the minimum time of the timed runs, over all rounds.
        open_size: the size of open dimensions other than the batch.
        profile: whether to measure the operators of LiteRT files, with the first number of threads, after the rounds.
        cross_check: whether to run LiteRT's own `litert-benchmark` on LiteRT files after the rounds.
        timeout_s: the limit for loading and the first run, for the profile, and for the cross-check; rounds have more.
        progress: whether to show a bar if it takes longer than two seconds.

    Returns:
        A `Benchmark`, whose `failures` say why a model has no result.

    Raises:
        ConfigurationError: a number is out of range, or `files` is empty.

        print(kd.evaluation.benchmark_models(["student_int8.tflite", "teacher.keras"], threads=[1, 4]))
    """
    threads = _checked_threads(threads)
    turns = {"rounds": rounds, "warmup": warmup, "min_runs": min_runs, "min_seconds": min_seconds}
    check_settings(**turns)
    limits = {"open_size": check_integer("open_size", open_size, at_least=1)}
    limits["timeout_s"] = check_number("timeout_s", timeout_s, at_least=0.001)
    entries, failures = _entries(files), {}
    _check_files(entries, failures)
    with bar("benchmark", len(entries) * len(threads) * (1 + rounds), unit="turns", **_shown(progress)) as advance:
        speeds = _measure(entries, threads, failures, turns, limits, advance)
    measured = [one for one in entries if one.name in {speed.name for speed in speeds} and not one.is_keras]
    profiles = {one.name: _profile(one, threads[0], limits) for one in measured} if profile else {}
    if cross_check:
        paths = {one.name: one.path for one in measured}
        speeds = [_cross_checked(one, paths[one.name], timeout_s) if one.name in paths else one for one in speeds]
    order = {one.name: failures[one.name] for one in entries if one.name in failures}
    return Benchmark(tuple(speeds), profiles, order, _machine())


def _measure(
    entries: list[_Entry],
    threads: tuple[int, ...],
    failures: dict[str, str],
    turns: dict[str, Any],
    limits: dict[str, Any],
    advance: Callable[[], Any],
) -> list[Speed]:
    """Starts all children, lets them take turns, and ends them."""
    with contextlib.ExitStack() as stack:
        children: dict[_Key, TimedChild] = {}
        for entry in entries:
            with _recording(failures, entry.name):
                for number in threads if entry.name not in failures else ():
                    children[entry.name, number] = stack.enter_context(_start(entry, number, **limits))
                    advance()
        times: dict[_Key, list[list[float]]] = {}
        while children := {key: child for key, child in children.items() if key[0] not in failures}:
            timers = {key: functools.partial(_time, key[0], child) for key, child in children.items()}
            try:
                times = take_turns(timers, **turns, advance=advance)
                break
            except _FailedError as error:  # the others start again, without it
                failures[error.name] = str(error)
        return _speeds({one.name: one for one in entries}, children, times)


def _start(entry: _Entry, num_threads: int, *, open_size: int, timeout_s: float) -> TimedChild:
    path = str(entry.path.absolute())
    if not entry.is_keras:
        return TimedChild(FILE_SCRIPT, [path, str(num_threads), str(open_size)], timeout_s=timeout_s)
    number = str(num_threads)
    variables = {"TF_NUM_INTRAOP_THREADS": number, "TF_NUM_INTEROP_THREADS": number, "TF_CPP_MIN_LOG_LEVEL": "2"}
    variables |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": keras.backend.backend()}
    options = {"timeout_s": timeout_s + _KERAS_IMPORT_SECONDS, "variables": variables, "runtime": "Keras"}
    return TimedChild(_KERAS_SCRIPT, [path, str(open_size)], **options)


def _time(name: str, child: TimedChild, warmup: int, min_runs: int, min_seconds: float) -> list[float]:
    try:
        return child.time(warmup, min_runs, min_seconds)
    except ConfigurationError as error:
        raise _FailedError(name, str(error)) from error


def _speeds(
    entries: dict[str, _Entry], children: dict[_Key, TimedChild], times: dict[_Key, list[list[float]]]
) -> list[Speed]:
    """The results, each compared with the first model with as many threads."""
    latencies = {
        (name, number): summarize_times(seconds, number if entries[name].obeys_threads else None)
        for (name, number), seconds in times.items()
    }
    reference = next((name for name, _ in latencies), "")
    return [
        Speed(
            name=name,
            runtime=entries[name].runtime,
            num_threads=number,
            num_bytes=entries[name].path.stat().st_size,
            inputs=child.inputs,
            load_ms=child.load_ms,
            first_run_ms=child.first_run_ms,
            latency=latencies[name, number],
            ratio=ratio(latencies[name, number], latencies[reference, number]),
            memory_bytes=child.memory_bytes,
            peak_bytes=child.peak_bytes,
        )
        for (name, number), child in children.items()
    ]


# What is done for each file.


def _entries(files: Sequence[str | Path]) -> list[_Entry]:
    """The files with different names: one that is named twice is measured twice, which shows the noise."""
    is_list = isinstance(files, Sequence) and not isinstance(files, (str, bytes))
    if not (is_list and files and all(isinstance(file, (str, Path)) for file in files)):
        problem, expected = "`files` must list the files.", "at least one path"
        raise ConfigurationError(explain(problem, received=repr(files), expected=expected))
    names: list[str] = []
    for file in map(str, files):
        before = sum(name == file or name.startswith(f"{file} (") for name in names)
        names.append(f"{file} ({before + 1})" if before else file)
    return [_Entry(name, Path(file)) for name, file in zip(names, files, strict=True)]


def _check_files(entries: list[_Entry], failures: dict[str, str]) -> None:
    """Refuses without a child what is not a model."""
    for entry in entries:
        with _recording(failures, entry.name):
            if not entry.is_keras:
                graph = read_file(entry.path).graphs[0]
                if not (graph.operators and graph.inputs and graph.outputs):
                    problem, expected = f"{entry.name} has nothing to run.", "inputs, operators and outputs"
                    raise ConfigurationError(explain(problem, expected=expected))
            else:
                check_file(entry.path)


@contextlib.contextmanager
def _recording(failures: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        failures[name] = str(error)


def _profile(entry: _Entry, num_threads: int, limits: dict[str, Any]) -> Profile | str:
    try:
        return profile_file(entry.path, num_threads=num_threads, **limits)
    except ConfigurationError as error:
        return str(error)


def _cross_checked(speed: Speed, path: Path, timeout_s: float) -> Speed:
    try:
        found: CrossCheck | str = litert_benchmark(path, num_threads=speed.num_threads, timeout_s=timeout_s)
    except ConfigurationError as error:
        found = str(error)
    return replace(speed, cross_check=found)


def _checked_threads(threads: Sequence[int]) -> tuple[int, ...]:
    if isinstance(threads, int) or not threads:
        raise ConfigurationError(explain("Invalid 'threads'.", received=repr(threads), expected="a list of numbers"))
    return tuple(dict.fromkeys(check_integer("threads", one, at_least=1) for one in threads))


def _shown(progress: bool) -> dict[str, Any]:
    return {"shown": progress, "after_seconds": _SECONDS_WITHOUT_BAR}


def _machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {"processor": processor, "num_cores": str(os.cpu_count()), "system": platform.platform()}
