"""Data-free distillation on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="runs the tests of TensorFlow on JAX")
def test_data_free_distillation_holds_on_jax(start_once):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", HERE]
    finished = start_once(*command, cwd=ROOT, env=environment).wait()
    assert finished.returncode == 0, finished.stdout[-3000:]
