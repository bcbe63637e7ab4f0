"""Converts a SavedModel to a TFLite file.

This file is also a script, which reads the paths of job files from standard input, one per line, and prints a line
after each job. It runs in a child process because the converter crashes on some models. It imports nothing from this
package at the top, so that the child starts quickly.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

IDLE_SECONDS = 300.0


def convert(
    saved_model: Path,
    weights: str,
    activations: str,
    io: str,
    calibration: dict[str, dict[str, np.ndarray]],
    batch_size: int | None,
) -> bytes:
    """Converts a SavedModel and returns the content of the TFLite file.

    A file with a single signature has TensorFlow's default name for it.

    Args:
        saved_model: the folder.
        weights: the dtype of the stored weights: "float32", "float16" or "int8".
        activations: the dtype that the operators compute in: "float32", "int8" or "int16".
        io: the dtype of float inputs and outputs in the file.
        calibration: signature -> input name -> array [n, ...]; without inputs unless activations are integers, and for
            a graph with fake quantization, which has the ranges.
        batch_size: the batch size of the SavedModel's signature; None for any.
    """
    import tensorflow as tf

    keys = {"signature_keys": list(calibration)} if len(calibration) > 1 else {}
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), **keys)
    _set_format(converter, weights, activations, io, calibration, batch_size)
    with warnings.catch_warnings():  # the converter itself still uses the interpreter that TensorFlow deprecates
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
        return converter.convert()


def _set_format(
    converter: Any,
    weights: str,
    activations: str,
    io: str,
    calibration: dict[str, dict[str, np.ndarray]],
    batch_size: int | None,
) -> None:
    import tensorflow as tf

    if weights == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif activations != "float32":
        operators = {
            "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        }[activations]
        if all(calibration.values()):
            converter.representative_dataset = lambda: _samples(calibration, batch_size or 1)
            converter.target_spec.supported_ops = [operators]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)


def _samples(calibration: dict[str, dict[str, np.ndarray]], batch_size: int) -> Iterator[Any]:
    """Batches by input name, each after the name of its signature if there are several."""
    for name, arrays in calibration.items():
        for batch in batches(arrays, batch_size):
            yield (name, batch) if len(calibration) > 1 else batch


def batches(arrays: dict[str, np.ndarray], batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All rows in batches of exactly `batch_size`; the last batch is padded with the first rows."""
    num_rows = len(next(iter(arrays.values())))
    for start in range(0, num_rows, batch_size):
        rows = np.arange(start, start + batch_size) % num_rows
        yield {name: array[rows] for name, array in arrays.items()}


def run_job(job_file: str) -> None:
    """Runs one job; writes the traceback of a failure to the job's `error` file."""
    job = json.loads(Path(job_file).read_text())
    try:
        if "endpoints" in job:
            from keras_kd.export._saved_model import resave

            resave(job["endpoints"], job["saved_model"], job["batch_size"], job["modules"])
            return
        calibration: dict[str, dict[str, np.ndarray]] = {name: {} for name in job["signatures"]}
        with np.load(job["calibration"]) as stored:
            for key, array in stored.items():
                signature, _, name = key.partition("/")
                calibration[signature][name] = array
        dtypes = (job[name] for name in ("weights", "activations", "io"))
        content = convert(job["saved_model"], *dtypes, calibration, job["batch_size"])
        Path(job["output"]).write_bytes(content)
    except Exception:  # any error is reported by the parent
        Path(job["error"]).write_text(traceback.format_exc())


def serve() -> None:
    """Runs jobs until standard input is closed, which happens however the parent ends.

    The process ends after `IDLE_SECONDS` without a job, to free its memory if the parent never closes it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the input
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps TensorFlow's output out of the replies
    import tensorflow  # noqa: F401  loads while the parent writes the first job

    while True:
        idle = threading.Timer(IDLE_SECONDS, os._exit, [0])
        idle.daemon = True
        idle.start()
        line = sys.stdin.readline()
        idle.cancel()
        if not line:
            return
        run_job(line.rstrip("\n"))
        print("done", file=replies, flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
