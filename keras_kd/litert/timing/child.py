"""The parent's side of a timing: starts a child, asks it, and ends it."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.litert.children import environment, failure
from keras_kd.litert.timing.serving import REPLY

FILE_SCRIPT = Path(__file__).with_name("_file.py")
_RUNS_IN_FIRST = 10  # no run of a model takes more than this many times its first one, except in one that hangs


class TimedChild:
    """A model in a child process, which loads it, runs it once, and then times runs of it.

    The child ends with `close`, at the end of the `with` block, or when this process ends in any way.

    Args:
        script: calls `keras_kd.litert.timing.serving.serve`.
        arguments: of the script.
        timeout_s: the limit for loading and for the first run; later runs have more if the first one took longer.
        variables: further environment variables.
        runtime: what loads the file, for error messages.

    Attributes:
        load_ms: the time to load the file.
        first_run_ms: the time of the first run.
        inputs: shape and dtype of each input by name.

    Raises:
        ConfigurationError: the model cannot be loaded or run, crashes its process, or is not finished in time.
    """

    def __init__(
        self,
        script: Path,
        arguments: Sequence[str],
        *,
        timeout_s: float = 60.0,
        variables: Mapping[str, str] | None = None,
        runtime: str = "LiteRT",
    ):
        self._runtime = runtime
        self._timeout_s = check_number("timeout_s", timeout_s, at_least=0.001)
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed with the child
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(script), *arguments],
            env=environment() | dict(variables or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._child, self._log)
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._child.stdout, self._replies), daemon=True).start()
        reply = self._ask({}, self._timeout_s)
        self.load_ms, self.first_run_ms = 1000 * reply["load_s"], 1000 * reply["first_run_s"]
        self.inputs: dict[str, str] = reply["inputs"]
        self._before_bytes: int | None = reply["before_bytes"]
        self._peak_bytes: int | None = reply["peak_bytes"]

    @property
    def memory_bytes(self) -> int | None:
        """By how much the process has grown since before it loaded the model, at most; None if that is unknown."""
        known = self._before_bytes is not None and self._peak_bytes is not None
        return max(0, self._peak_bytes - self._before_bytes) if known else None

    @property
    def peak_bytes(self) -> int | None:
        """The peak of the memory of the whole process, with Python and the runtime; None if that is unknown."""
        return self._peak_bytes

    def __enter__(self) -> TimedChild:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child, even if it is working."""
        self._end()

    def time(self, warmup: int, min_runs: int, min_seconds: float) -> list[float]:
        """The seconds of each run; see `time_runs`."""
        expected = max(self.first_run_ms / 1000 * (warmup + min_runs), min_seconds)
        command = {"warmup": warmup, "min_runs": min_runs, "min_seconds": min_seconds}
        return self._ask(command, self._timeout_s + _RUNS_IN_FIRST * expected)["seconds"]

    def _ask(self, command: dict[str, Any], limit_s: float) -> dict[str, Any]:
        try:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(json.dumps(command | {"limit_s": limit_s}) + "\n")
                self._child.stdin.flush()
            reply = self._reply(limit_s)
            if "error" in reply:
                raise ConfigurationError(reply["error"])
        except BaseException:  # including Ctrl-C: the child must not continue
            self.close()
            raise
        self._peak_bytes = reply["peak_bytes"]
        return reply

    def _reply(self, limit_s: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=limit_s)
        except queue.Empty:
            problem = f"The model was not finished after {limit_s:g} s."
            raise ConfigurationError(explain(problem, fix="Raise the time limit if it is this slow.")) from None
        if line:
            return json.loads(line)
        return_code = self._child.wait()
        self._log.seek(0)
        raise ConfigurationError(failure(return_code, self._log.read(), self._runtime))


def _read(stdout: IO[str], replies: queue.SimpleQueue[str]) -> None:
    """Passes answers on, then an empty text."""
    with stdout, contextlib.suppress(ValueError):  # bytes that are not text
        for line in stdout:
            if line.startswith(REPLY):
                replies.put(line.removeprefix(REPLY))
    replies.put("")


def _end(child: subprocess.Popen[str], log: IO[str]) -> None:
    child.kill()
    child.wait()
    with contextlib.suppress(OSError):
        child.stdin.close()
    log.close()
