"""Pruning on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
WHAT = "whole_life or after_every_step or runs_twice or under_a_distiller or go_on_as_before or resumed"
SHORT = "(nested and (whole_life or under_a_distiller)) or go_on_as_before"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")


@pytest.mark.parametrize("which", [SHORT, pytest.param(WHAT, marks=pytest.mark.long)], ids=["short", "all"])
def test_pruning_on_jax(start, which):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", HERE / "test_pruning.py", "-k", which]
    child = start(*command, cwd=HERE.parents[2], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout and "failed" not in child.stdout
