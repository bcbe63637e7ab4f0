"""Channel pruning on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
WHAT = "taylor or half_precision or (at_zero and (nested or sequences))"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")
def test_channel_pruning_on_jax(start):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", HERE / "test_channel_pruning.py", "-k", WHAT]
    child = start(*command, cwd=HERE.parents[2], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert "4 passed" in child.stdout and "failed" not in child.stdout
