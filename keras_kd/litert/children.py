"""Child processes: their environment, and their failures in a sentence."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from keras_kd.errors import explain

_NUM_LINES = 4
_CHATTER = re.compile(r"^(INFO|WARNING|[IW]\d{4}|\s*$|WARNING: All log)")


def environment() -> dict[str, str]:
    """The environment of a child that imports what this process can import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}


def failure(return_code: int, log: str, runtime: str = "LiteRT") -> str:
    """What went wrong in a child that was to load a file.

    Args:
        return_code: of the process; negative for a signal.
        log: what it wrote to the standard error.
        runtime: what loads the file.
    """
    if return_code == -signal.SIGKILL:
        problem = f"{runtime} was killed while it had the file, most often for lack of memory."
        return explain(problem, fix="Free some memory, or try a smaller model.")
    if -return_code in set(signal.Signals):
        name = signal.Signals(-return_code).name
        return explain(f"{runtime} crashed on the file ({name}).", fix="The file is damaged: export it again.")
    lines = [line.strip() for line in log.splitlines() if not _CHATTER.match(line) and "Traceback" not in line]
    received = " ".join(lines[-_NUM_LINES:])[-400:] or f"exit code {return_code}"
    return explain(f"{runtime} does not load the file.", received=received, fix="Export it again.")
