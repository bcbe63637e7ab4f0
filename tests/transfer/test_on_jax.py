"""Freezing and unfreezing on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
SHORT = "each_group or updates_are or was_trained_before or without_trainable"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")


@pytest.mark.parametrize("which", [SHORT, pytest.param("test", marks=pytest.mark.long)], ids=["short", "all"])
def test_transfer_on_jax(start, which):
    files = [HERE / f"test_{name}.py" for name in ("freezing", "unfreezing")]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *files, "-k", which]
    child = start(*command, cwd=HERE.parents[1], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout and "failed" not in child.stdout
