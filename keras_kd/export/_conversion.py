"""Runs the converter, in a child process or in this one, and says in a few lines why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import weakref
from pathlib import Path
from typing import IO

import numpy as np

from keras_kd.errors import ExportError, explain
from keras_kd.export import _convert
from keras_kd.litert import Format

SCRIPT = Path(_convert.__file__)
_NUM_LINES, _LINE_LENGTH = 8, 240
_LOG_LINE = re.compile(r"[IWEF]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |WARNING: All log messages|To enable the ")
_PREFIX = re.compile(r"^<unknown>:0: |loc\(.*\): |^tensorflow\.[\w.]+: ")


class Converter:
    """A child process that converts one model after the other, so that several exports load TensorFlow once.

    It starts with the first export that uses it. Where a model crashes it, that export fails, and the next one gets a
    new child. It ends with `close`, with the `with` block, with this process however that ends, and after five minutes
    without a job.

        with kd.export.Converter() as converter:
            for name, model in models.items():
                kd.export.export_tflite(model, f"{name}.tflite", converter=converter)
    """

    def __init__(self):
        self._child: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None
        self._end: weakref.finalize | None = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child; the next export would start another one."""
        if self._end is not None:
            self._end()
        self._child = self._log = self._end = None

    def start(self) -> None:
        """Starts the child where none is there; it loads TensorFlow while this process goes on."""
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed with the child
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._child, self._log)

    def run(self, job_file: Path, crash_hint: str | None = None) -> None:
        """Runs the job and returns when it is done, well or with an `error` file.

        Raises:
            ExportError: the child crashed.
        """
        try:
            if self._ask(job_file) or (self._left_before_the_job() and self._ask(job_file)):
                return
            self._log.seek(0)
            raise ExportError(_crash(self._child.wait(), self._log.read(), crash_hint))
        except BaseException:  # also Ctrl-C: the child must not go on with what nobody waits for
            self.close()
            raise

    def _ask(self, job_file: Path) -> bool:
        """Whether the child has answered."""
        self.start()
        self._log.seek(0)
        self._log.truncate()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(f"{job_file}\n")
            self._child.stdin.flush()
        return bool(self._child.stdout.readline())

    def _left_before_the_job(self) -> bool:
        """Whether the child ended by itself, for want of jobs, while it was being asked."""
        return self._child.wait() == 0


def _end(child: subprocess.Popen[str], log: IO[str]) -> None:
    """Ends the child, at once if it is at work: its result is not wanted any more."""
    child.kill()
    child.wait()
    with contextlib.suppress(OSError):
        child.stdin.close()
    child.stdout.close()
    log.close()


def run_converter(
    saved_model: Path,
    form: Format,
    calibration: dict[str, np.ndarray],
    batch_size: int,
    *,
    converter: Converter | None,
    crash_hint: str | None = None,
) -> bytes:
    """The TFLite file's bytes.

    Args:
        saved_model: the SavedModel's folder; the job's files are written beside it.
        form: the file's format.
        calibration: input name -> array [n, ...]; empty where none is needed.
        batch_size: the batch of the SavedModel's signature.
        converter: the child process that does it; None does it in this one.
        crash_hint: what to say about this model where the child is killed by a signal.

    Raises:
        ExportError: the converter refused the model, or crashed.
    """
    if converter is not None:
        return _convert_in_child(converter, saved_model, form, calibration, batch_size, crash_hint)
    try:
        return _convert.convert(saved_model, form.weights, form.activations, calibration, batch_size)
    except Exception as error:
        raise ExportError(_refusal(traceback.format_exc())) from error


def _convert_in_child(
    converter: Converter,
    saved_model: Path,
    form: Format,
    calibration: dict[str, np.ndarray],
    batch_size: int,
    crash_hint: str | None,
) -> bytes:
    folder = saved_model.parent
    job = {name: str(folder / name) for name in ("output", "error")}
    job |= {"saved_model": str(saved_model), "calibration": str(folder / "calibration.npz")}
    job |= {"weights": form.weights, "activations": form.activations, "batch_size": batch_size}
    np.savez(job["calibration"], **calibration)
    (folder / "job.json").write_text(json.dumps(job))
    converter.run(folder / "job.json", crash_hint)
    error = folder / "error"
    if error.exists():
        raise ExportError(_refusal(error.read_text()))
    return (folder / "output").read_bytes()


def _crash(return_code: int, log: str, hint: str | None) -> str:
    killed = -return_code in set(signal.Signals)
    name = signal.Signals(-return_code).name if killed else f"exit code {return_code}"
    if killed and name == "SIGKILL":
        hint = "Something killed it, most often for want of memory: free some, or use less calibration data."
    lines = useful_lines(log)
    said = f" Its last words:\n{lines}\n" if lines else " It left no message."
    fix = hint or "Try another `format`, or find the culprit by leaving out layers."
    return f"The TFLite converter crashed: its process ended with {name}.{said} {fix}"


_FULL = "Free some, also where temporary files go (the environment's TMPDIR)."


def _refusal(log: str) -> str:
    fix = None
    if "No space left on device" in log:
        return explain("The TFLite file could not be written: no space left on the device.", fix=_FULL)
    if "Select TF ops" in log or "flex op" in log:
        fix = "Replace the named operations by ones that TFLite has as built-in operators."
    return explain(f"The TFLite converter refused the model. It says:\n{useful_lines(log)}\n", fix=fix)


def useful_lines(log: str) -> str:
    """The few lines of a converter's log that say what went wrong: errors if it names any, else the last.

    >>> useful_lines("I0000 00:00:1 loader.cc:2] OK\\n  x = 1\\n<unknown>:0: error: loc(a(b)): no 'tf.Foo'")
    "error: no 'tf.Foo'"
    """
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _LOG_LINE.match(line)]
    lines = [_PREFIX.sub("", line) for line in lines]
    errors = [line for line in lines if re.search(r"\berror\b|Error:|\bops?:", line)]
    unique = list(dict.fromkeys(line[:_LINE_LENGTH] for line in errors or lines))
    return "\n".join(unique[-_NUM_LINES:])
