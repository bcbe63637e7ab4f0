"""Quantization-aware training on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
SHORT = "test_fake_quant.py", "test_activations.py"
LONG = "test_inside.py", "test_quantization_aware.py"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")


@pytest.mark.parametrize("files", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
def test_quantization_on_jax(start, files):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *(HERE / file for file in files)]
    child = start(*command, cwd=HERE.parents[2], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout and "failed" not in child.stdout
