"""Runs the converter, in a child process or in this one, and says in a few lines why it failed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np

from keras_kd.errors import ExportError, explain
from keras_kd.export import _convert

SCRIPT = Path(_convert.__file__)
_NUM_LINES, _LINE_LENGTH = 8, 240
_LOG_LINE = re.compile(r"[IWEF]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |WARNING: All log messages|To enable the ")
_PREFIX = re.compile(r"^<unknown>:0: |loc\(.*\): |^tensorflow\.[\w.]+: ")


def run_converter(
    saved_model: Path,
    quantization: str | None,
    calibration: dict[str, np.ndarray],
    batch_size: int,
    *,
    isolate: bool,
    crash_hint: str | None = None,
) -> bytes:
    """The TFLite file's bytes.

    Args:
        saved_model: the SavedModel's folder; the job's files are written beside it.
        quantization: see `export_tflite`.
        calibration: input name -> array [n, ...]; empty where none is needed.
        batch_size: the batch of the SavedModel's signature.
        isolate: whether a child process does it.
        crash_hint: what to say about this model where the child is killed by a signal.

    Raises:
        ExportError: the converter refused the model, or crashed.
    """
    if isolate:
        return _convert_in_child(saved_model, quantization, calibration, batch_size, crash_hint)
    try:
        return _convert.convert(saved_model, quantization, calibration, batch_size)
    except Exception as error:
        raise ExportError(_refusal(traceback.format_exc())) from error


def _convert_in_child(
    saved_model: Path,
    quantization: str | None,
    calibration: dict[str, np.ndarray],
    batch_size: int,
    crash_hint: str | None,
) -> bytes:
    folder = saved_model.parent
    job = {name: str(folder / name) for name in ("output", "error")}
    job |= {"saved_model": str(saved_model), "calibration": str(folder / "calibration.npz")}
    job |= {"quantization": quantization, "batch_size": batch_size}
    np.savez(job["calibration"], **calibration)
    (folder / "job.json").write_text(json.dumps(job))
    child = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), str(folder / "job.json")],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    error = folder / "error"
    if error.exists():
        raise ExportError(_refusal(error.read_text()))
    if child.returncode != 0:
        raise ExportError(_crash(child.returncode, child.stderr, crash_hint))
    return (folder / "output").read_bytes()


def _crash(return_code: int, log: str, hint: str | None) -> str:
    killed = -return_code in set(signal.Signals)
    name = signal.Signals(-return_code).name if killed else f"exit code {return_code}"
    if killed and name == "SIGKILL":
        hint = "Something killed it, most often for want of memory: free some, or use less calibration data."
    lines = useful_lines(log)
    said = f" Its last words:\n{lines}\n" if lines else " It left no message."
    fix = hint or "Try another `quantization`, or find the culprit by leaving out layers."
    return f"The TFLite converter crashed: its process ended with {name}.{said} {fix}"


def _refusal(log: str) -> str:
    fix = None
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
