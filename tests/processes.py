"""Child processes of a test: none outlives it, and each is waited for as long as it gets on with its work.

A number of seconds says nothing on a loaded machine. A process gets on with its work while it, or a process that it
started, uses the processor or prints something; it stalls where it does neither, and runs away where it has used far
more of the processor than the work takes.
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
    """How a process ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """A process in a session of its own; `stdout` and `stderr` are what it has printed so far."""

    def __init__(self, command, folder, **settings):
        self._out, self._err = (Path(folder) / name for name in ("stdout", "stderr"))
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # a shell starts what it runs in the background with Ctrl-C ignored, and the tests may run there
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
        """Of the processor, all processes of the session together; those that ended and were waited for too."""
        return sum(map(_cpu_seconds, session(self.pid)))

    def wait_for(self, condition, what):
        """Waits until `condition()`; fails where the process ends, stalls or runs away before.

        Args:
            condition: a function that is true when the waiting is over.
            what: it is about, for the message.
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
        """Waits until it ends."""
        self.wait_for(lambda: self.has_ended, "its end")
        return Finished(self._process.returncode, self.stdout, self.stderr)

    @property
    def returncode(self):
        return self._process.poll()

    def others(self):
        """The processes of its session that are still there, without itself."""
        return [pid for pid in session(self.pid) if pid != self.pid]

    def send(self, number):
        """Sends a signal to this process alone."""
        self._process.send_signal(number)

    def end(self):
        """Kills whatever is left of its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # which is the whole session, but for groups made in it
        for pid in session(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def session(pid):
    """The processes of a session, by the number of its first one; empty where the system does not tell."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields and int(fields[3]) == pid and fields[0] != "Z":
            members.append(int(stat.parent.name))
    return members


def _fields(stat):
    """The fields of /proc/PID/stat from the state on."""
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()
    return None


def finished_cpu_seconds():
    """Of the processor, by all processes that this one has started and waited for, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds(pid):
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return sum(map(int, fields[11:15])) * _TICK if fields else 0.0


@contextlib.contextmanager
def children():
    """The function `start(*command, **settings of Popen)`; gives a `Child`, which is gone when the context ends."""
    with contextlib.ExitStack() as stack:

        def start(*command, **settings):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            child = Child(command, folder, **settings)
            stack.callback(child.end)
            return child

        yield start
