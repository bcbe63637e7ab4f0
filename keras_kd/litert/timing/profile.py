"""The time of each operator of a LiteRT file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.litert.children import environment, failure
from keras_kd.litert.timing import _profile

_SCRIPT = Path(_profile.__file__)
_DEFAULT, _OPERATOR, _TELEMETRY = 1, 2, 32  # kinds of events, from `litert_profiler_event.h`
_IN_DELEGATE = (4, 8)


@dataclass(frozen=True)
class OperatorTime:
    """An operator of the main graph, or a kernel of XNNPACK that runs one or several of them.

    Attributes:
        name: as in LiteRT's schema, such as "CONV_3D", or XNNPACK's own, such as "Convolution (NHWC, F32) GEMM".
        is_xnnpack: whether it is a kernel of XNNPACK.
        mean_us: the mean time in microseconds; LiteRT drops fractions of one in each run.
    """

    name: str
    is_xnnpack: bool
    mean_us: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a LiteRT file goes, according to LiteRT's profiler.

    Attributes:
        operators: in the order in which they run; operators inside a WHILE or IF count as part of it.
        mean_us: the mean time of a whole run in microseconds, with what is between the operators.
        num_runs: the number of runs.
    """

    operators: tuple[OperatorTime, ...]
    mean_us: float
    num_runs: int

    def by_name(self) -> dict[str, tuple[int, float]]:
        """Number and total mean microseconds of the operators of each name, the slowest first."""
        totals: dict[str, tuple[int, float]] = {}
        for one in self.operators:
            count, us = totals.get(one.name, (0, 0.0))
            totals[one.name] = (count + 1, us + one.mean_us)
        return dict(sorted(totals.items(), key=lambda item: -item[1][1]))


def profile_file(
    path: str | Path, *, num_threads: int = 1, num_runs: int = 20, open_size: int = 1, timeout_s: float = 120.0
) -> Profile:
    """Runs a LiteRT file with LiteRT's profiler, in a child process, with random inputs.

    The profiler is that of the C library in the package `ai-edge-litert`, with the same kernels as the interpreter.

    Args:
        path: the file.
        num_threads: CPU threads.
        num_runs: the number of runs, after three untimed ones.
        open_size: the size of open dimensions other than the batch.
        timeout_s: the limit for everything.

    Raises:
        ConfigurationError: LiteRT does not run the file, crashes on it, is not finished in time, or has no profiler.
    """
    check_number("timeout_s", timeout_s, at_least=0.001)
    numbers = (
        check_integer("num_threads", num_threads, at_least=1),
        check_integer("open_size", open_size, at_least=1),
        check_integer("num_runs", num_runs, at_least=1),
    )
    command = [sys.executable, "-P", str(_SCRIPT), str(path), *map(str, numbers)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, env=environment())
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"LiteRT's profiler was not finished after {timeout_s:g} s.") from None
    if child.returncode:
        raise ConfigurationError(failure(child.returncode, child.stderr.decode(errors="replace"), "LiteRT's profiler"))
    try:
        return summarize(json.loads(child.stdout.decode().splitlines()[-1]))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(explain("LiteRT's profiler gave no usable answer.", received=str(error))) from error


def summarize(runs: Sequence[Sequence[dict[str, Any]]]) -> Profile:
    """The profile of some runs.

    Args:
        runs: for each run its events in order, as dictionaries with `name`, `kind`, `us` and `index`.

    Raises:
        ValueError: the runs differ in their operators, or lack events.
    """
    found = [_main_events(events) for events in runs]
    names = [(one["name"], one["kind"]) for one in found[0][1]]
    if any([(one["name"], one["kind"]) for one in operators] != names for _, operators in found):
        raise ValueError("the runs differ in their operators")
    times = zip(*([one["us"] for one in operators] for _, operators in found), strict=True)
    operators = tuple(
        OperatorTime(name, kind in _IN_DELEGATE, sum(us) / len(us))
        for (name, kind), us in zip(names, times, strict=True)
    )
    return Profile(operators, sum(us for us, _ in found) / len(found), len(found))


def _main_events(events: Sequence[dict[str, Any]]) -> tuple[int, list[dict[str, Any]]]:
    """The microseconds of a run, and the events of the operators of its main graph.

    A graph begins with an event "Invoke" and ends with a telemetry event of that name.
    """
    total, depth, operators = None, 0, []
    for event in events:
        if event["name"] == "Invoke" and event["kind"] in (_DEFAULT, _TELEMETRY):
            begins = event["kind"] == _DEFAULT
            depth += 1 if begins else -1
            total = event["us"] if begins and total is None else total
        elif depth == 1 and event["kind"] in (_OPERATOR, *_IN_DELEGATE):
            operators.append(event)
    if total is None or depth:
        raise ValueError(f"{len(events)} events without the begin or the end of a run")
    return total, operators
