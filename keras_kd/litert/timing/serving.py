"""The child's side of a timing: one model in one process, and commands on its standard input.

Each command is a line of JSON, and so is each answer after its mark. The process ends when its input is closed, which
happens however the parent ends, and kills itself if a command takes longer than its limit, even in native code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from keras_kd.errors import ConfigurationError

REPLY = "keras_kd timing: "  # begins each answer, since libraries may print before `serve` keeps them quiet
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_GRACE_SECONDS = 5


class Subject(Protocol):
    """A model that is timed."""

    def prepare(self) -> None:
        """Does what is not part of the measurement: imports the runtime, makes what is needed for the inputs."""

    def load(self) -> None:
        """Loads the file."""

    def inputs(self) -> dict[str, str]:
        """Makes the inputs of the model; returns a description of each, such as "1x8x8x1 float32"."""

    def run(self) -> Any:
        """Runs the model once."""

    def bind(self) -> Callable[[], Any]:
        """A function that runs the model once, without checks; called once, after `run`."""


def time_runs(
    run: Callable[[], Any],
    warmup: int,
    min_runs: int,
    min_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """The seconds of each run, for at least `min_runs` runs and `min_seconds` in total, after `warmup` untimed runs."""
    for _ in range(warmup):
        run()
    times, total = [], 0.0
    while len(times) < min_runs or total < min_seconds:
        start = clock()
        run()
        times.append(clock() - start)
        total += times[-1]
    return times


def serve(subject: Subject) -> None:
    """Answers commands until the input is closed: `load` first, then any number of `time`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps the output of libraries out of the replies
    bound = None
    for line in sys.stdin:
        command = json.loads(line)
        with _ending_after(command.pop("limit_s")):
            try:
                if bound is None:
                    reply = _load(subject)
                    bound = subject.bind()
                else:
                    reply = {"seconds": time_runs(bound, **command)}
                reply["peak_bytes"] = memory_bytes("VmHWM")
            except (Exception, SystemExit) as error:  # whatever a damaged file causes is for the parent to report
                reply = {"error": _in_a_line(error)}
        replies.write(f"{REPLY}{json.dumps(reply)}\n")
        replies.flush()


def _in_a_line(error: BaseException) -> str:
    kind = "" if isinstance(error, ConfigurationError) else f"{type(error).__name__}: "  # "1" says nothing of KeyError
    return kind + " ".join(str(error).split())


def _load(subject: Subject) -> dict[str, Any]:
    subject.prepare()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # the peak starts at what is used now
    before, start = memory_bytes("VmRSS"), time.perf_counter()
    subject.load()
    loaded = time.perf_counter()
    inputs = subject.inputs()
    prepared = time.perf_counter()
    subject.run()
    first_s = time.perf_counter() - prepared
    return {"load_s": loaded - start, "first_run_s": first_s, "before_bytes": before, "inputs": inputs}


def memory_bytes(name: str) -> int | None:
    """`VmRSS` or `VmHWM` of this process in bytes; None where the system does not tell.

    `getrusage` is of no use here: on Linux, its peak includes that of the process that started this one.
    """
    try:
        fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return int(fields[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


@contextlib.contextmanager
def _ending_after(seconds: float):
    """Lets the system kill this process if the block takes longer, should the parent be gone by then."""
    if not hasattr(signal, "alarm"):
        yield
        return
    signal.alarm(math.ceil(seconds) + _GRACE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
