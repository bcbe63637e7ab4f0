"""Runs the converter in a child process or in this one, and reports failures in a few lines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from keras_kd.errors import ExportError, explain
from keras_kd.export import _convert
from keras_kd.export._saved_model import Endpoint, own_modules
from keras_kd.export.preparing.advice import crash_hint, refusal
from keras_kd.litert import Format
from keras_kd.litert.children import environment

SCRIPT = Path(_convert.__file__)
_ON_THE_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
_NUM_LINES, _LINE_LENGTH = 8, 240
_LOG_LINE = re.compile(r"[IWEF]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |WARNING: All log messages|To enable the ")
_PREFIX = re.compile(r"^<unknown>:0: |loc\(.*\): |^tensorflow\.[\w.]+: ")


class Rejection(ExportError):
    """The converter does not take the model in this format, and did not crash."""


class Converter:
    """A child process that converts models one after another, so that several exports load TensorFlow only once.

    The child starts with the first export. If a model crashes it, that export fails and the next one starts a new
    child. The child ends with `close`, at the end of the `with` block, when this process ends in any way, or after five
    minutes without a job.

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
        """Ends the child; the next export starts a new one."""
        if self._end is not None:
            self._end()
        self._child = self._log = self._end = None

    def start(self) -> None:
        """Starts the child unless it is running; it loads TensorFlow in the background."""
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed with the child
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT)],
            env=environment() | _ON_THE_CPU,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._child, self._log)

    def run(self, job_file: Path, crash_hint: str | None = None) -> None:
        """Runs the job and returns when it is finished, successfully or with an `error` file.

        Raises:
            ExportError: the child crashed.
        """
        try:
            if self._submit(job_file) or (self._ended_before_the_job() and self._submit(job_file)):
                return
            self._log.seek(0)
            raise ExportError(_crash(self._child.wait(), self._log.read(), crash_hint))
        except BaseException:  # including Ctrl-C: the child must not continue with an unwanted job
            self.close()
            raise

    def _submit(self, job_file: Path) -> bool:
        """Sends the job to the child; returns False if the child ended before finishing it."""
        self.start()
        self._log.seek(0)
        self._log.truncate()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(f"{job_file}\n")
            self._child.stdin.flush()
        return bool(self._child.stdout.readline())

    def _ended_before_the_job(self) -> bool:
        """Whether the child ended by itself, after its idle time, while the job was being sent."""
        return self._child.wait() == 0


def _end(child: subprocess.Popen[str], log: IO[str]) -> None:
    """Kills the child, even if it is working: its result is no longer needed."""
    child.kill()
    child.wait()
    with contextlib.suppress(OSError):
        child.stdin.close()
    child.stdout.close()
    log.close()


def run_converter(
    saved_model: Path,
    form: Format,
    endpoints: Sequence[Endpoint],
    batch_size: int | None,
    *,
    converter: Converter | None,
) -> bytes:
    """Converts a SavedModel and returns the content of the TFLite file.

    Args:
        saved_model: the SavedModel's folder; the job's files are written to its parent.
        form: the file's format.
        endpoints: the models that were saved, whose layers errors name, with their calibration samples.
        batch_size: the batch size of the SavedModel's signatures; None for any.
        converter: the child process to use; None converts in this process.

    Raises:
        Rejection: the converter rejected a model.
        ExportError: the converter crashed.
    """
    calibration = {one.name: dict(one.calibration) if form.needs_calibration else {} for one in endpoints}
    models = [one.model for one in endpoints]
    if converter is not None:
        return _convert_in_child(converter, saved_model, form, calibration, batch_size, models)
    try:
        return _convert.convert(saved_model, form.weights, form.activations, form.io, calibration, batch_size)
    except Exception as error:
        raise Rejection(_refusal(traceback.format_exc(), models)) from error


def _convert_in_child(
    converter: Converter,
    saved_model: Path,
    form: Format,
    calibration: dict[str, dict[str, np.ndarray]],
    batch_size: int | None,
    models: Sequence[keras.Model],
) -> bytes:
    folder = saved_model.parent
    job = {"saved_model": str(saved_model), "calibration": str(folder / "calibration.npz")}
    job |= {"weights": form.weights, "activations": form.activations, "io": form.io}
    job |= {"batch_size": batch_size, "signatures": list(calibration), "output": str(folder / "output")}
    arrays = {f"{signature}/{name}": array for signature, of in calibration.items() for name, array in of.items()}
    np.savez(job["calibration"], **arrays)
    error = _run_job(converter, folder, job, next(filter(None, map(crash_hint, models)), None))
    if error is not None:
        raise Rejection(_refusal(error, models))
    return (folder / "output").read_bytes()


def resave_in_child(
    converter: Converter, endpoints: Sequence[Endpoint], batch_size: int | None, saved_model: Path
) -> None:
    """Writes a SavedModel on a backend other than TensorFlow, in the child, which loads the models' `.keras` files.

    Args:
        converter: the child process.
        endpoints: the models; their own classes must be in modules that the child can import.
        batch_size: the batch size of the SavedModel's signatures; None for any.
        saved_model: the folder to write; the job's files are written to its parent.

    Raises:
        ExportError: a model cannot be saved, or cannot be loaded on TensorFlow.
    """
    folder = saved_model.parent
    described = []
    for one in endpoints:
        file = folder / f"{one.name}.keras"
        try:
            one.model.save(file)
        except Exception as error:
            raise ExportError(f"Keras could not save the model: {error}") from error
        described.append({"name": one.name, "file": str(file), "inputs": [dataclasses.asdict(i) for i in one.inputs]})
    job = {"endpoints": described, "saved_model": str(saved_model), "batch_size": batch_size}
    job |= {"modules": own_modules(one.model for one in endpoints)}
    error = _run_job(converter, folder, job, None)
    if error is not None:
        fix = (
            "Classes of your own must be registered (keras.saving.register_keras_serializable) in an importable module."
        )
        problem = f"The model could not be loaded on TensorFlow, which converts it:\n{useful_lines(error)}\n"
        raise ExportError(explain(problem, fix=fix))


def _run_job(converter: Converter, folder: Path, job: dict[str, Any], hint: str | None) -> str | None:
    """Runs a job with its files in `folder`; returns the child's traceback if the job failed, else None."""
    file, error = folder / "job.json", folder / "error"
    file.write_text(json.dumps(job | {"error": str(error)}))
    converter.run(file, hint)
    return error.read_text() if error.exists() else None


def _crash(return_code: int, log: str, hint: str | None) -> str:
    killed = -return_code in set(signal.Signals)
    name = signal.Signals(-return_code).name if killed else f"exit code {return_code}"
    if killed and name == "SIGKILL":
        hint = "Something killed it, most often a lack of memory: free some, or use less calibration data."
    lines = useful_lines(log)
    output = f" Its last output:\n{lines}\n" if lines else " It printed nothing."
    fix = hint or "Try another `format`, or remove layers one by one to find the cause."
    return f"The TFLite converter crashed: its process ended with {name}.{output} {fix}"


_FULL = "Free some space, also in the folder for temporary files (the environment variable TMPDIR)."


def _refusal(log: str, models: Sequence[keras.Model]) -> str:
    if "No space left on device" in log:
        return explain("The TFLite file could not be written: no space left on the device.", fix=_FULL)
    advice = next(filter(None, (refusal(log, model) for model in models)), None)
    return advice or f"The TFLite converter rejected the model:\n{useful_lines(log)}\n"


def useful_lines(log: str) -> str:
    """The few lines of a converter's log that explain a failure: the errors, or else the last lines.

    >>> useful_lines("I0000 00:00:1 loader.cc:2] OK\\n  x = 1\\n<unknown>:0: error: loc(a(b)): no 'tf.Foo'")
    "error: no 'tf.Foo'"
    """
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _LOG_LINE.match(line)]
    lines = [_PREFIX.sub("", line) for line in lines]
    errors = [line for line in lines if re.search(r"\berror\b|Error:|\bops?:", line)]
    unique = list(dict.fromkeys(line[:_LINE_LENGTH] for line in errors or lines))
    return "\n".join(unique[-_NUM_LINES:])
