"""Child processes of a test: none outlives it, and waiting lasts as long as the process makes progress.

A timeout in seconds is meaningless on a loaded machine. A process makes progress while it, or a process that it
started, uses CPU time or prints something. It has stalled if it does neither, and has run away if it has used far more
CPU time than the work takes.
"""

import contextlib
import dataclasses
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

STALLED_SECONDS = 120.0
MAX_CPU_SECONDS = 900.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Finished:
    """The exit code and output of a process."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """A process in its own session; `stdout` and `stderr` are its output so far."""

    def __init__(self, command, folder, **settings):
        self._out, self._err = (Path(folder) / name for name in ("stdout", "stderr"))
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # a shell's background jobs ignore Ctrl-C, and the tests may run in one
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                **settings,
            )
        self.pid = self._process.pid

    @property
    def stdout(self):
        return self._out.read_text(errors="replace")

    @property
    def stderr(self):
        return self._err.read_text(errors="replace")

    @property
    def has_ended(self):
        return self._process.poll() is not None

    @property
    def cpu_seconds(self):
        """CPU time of all processes of the session, including ended ones that were waited for."""
        return sum(map(_cpu_seconds, session(self.pid)))

    def wait_for(self, condition, what):
        """Waits until `condition()`; fails if the process ends, stalls or runs away first.

        Args:
            condition: a function that returns true to end the wait.
            what: a description of the condition for the error message.
        """
        progress, since = None, time.monotonic()
        while not condition():
            now = (round(self.cpu_seconds, 1), len(self.stdout), len(self.stderr))
            if now != progress:
                progress, since = now, time.monotonic()
            problem = None
            if self.has_ended and not condition():
                problem = f"ended with {self._process.returncode}"
            elif time.monotonic() - since > STALLED_SECONDS:
                problem = "stalled"
            elif now[0] > MAX_CPU_SECONDS:
                problem = "ran away"
            if problem:
                self.end()
                raise AssertionError(f"The process {problem}, waiting for {what}.\n{self.stdout}\n{self.stderr}")
            time.sleep(0.02)

    def wait(self):
        """Waits until the process ends."""
        self.wait_for(lambda: self.has_ended, "its end")
        return Finished(self._process.returncode, self.stdout, self.stderr)

    @property
    def returncode(self):
        return self._process.poll()

    def others(self):
        """The other processes of its session that are still running."""
        return [pid for pid in session(self.pid) if pid != self.pid]

    def send(self, number):
        """Sends a signal to this process only."""
        self._process.send_signal(number)

    def end(self):
        """Kills all remaining processes of its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # the whole session, except process groups created in it
        for pid in session(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def session(pid):
    """The processes of the session with this leader; empty if the system has no /proc."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields and int(fields[3]) == pid and fields[0] != "Z":
            members.append(int(stat.parent.name))
    return members


def _fields(stat):
    """The fields of /proc/PID/stat, starting with the state."""
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()
    return None


def finished_cpu_seconds():
    """CPU time of all processes that this one has started and waited for, including their own children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds(pid):
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return sum(map(int, fields[11:15])) * _TICK if fields else 0.0


@contextlib.contextmanager
def children():
    """Yields `start(*command, **settings of Popen)`, which returns a `Child` that is killed when the context ends."""
    with contextlib.ExitStack() as stack:

        def start(*command, **settings):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            child = Child(command, folder, **settings)
            stack.callback(child.end)
            return child

        yield start
