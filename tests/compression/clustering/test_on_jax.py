"""Clustering on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
WHAT = "whole_life or no_optimizer or of_deep or resumed or distiller or at_once or stay_equal or sum_of"
SHORT = "(nested and whole_life) or distiller or of_deep or at_once or (sum_of and sgd)"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")


@pytest.mark.parametrize("which", [SHORT, pytest.param(WHAT, marks=pytest.mark.long)], ids=["short", "all"])
def test_clustering_on_jax(start, which):
    files = [HERE / "test_clustering.py", HERE / "test_fixed.py"]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *files, "-k", which]
    child = start(*command, cwd=HERE.parents[2], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout and "failed" not in child.stdout
