"""Curricula, routes and growing resolution on JAX, in a child process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

HERE = Path(__file__).parent
FOLDERS = [HERE, HERE.parent / "teachers" / "several"]
CODE = f"""
import json, sys
sys.path[:0] = {list(map(str, FOLDERS))!r}
import growing, test_by_teacher, test_route, test_stages
modules = (growing, test_by_teacher, test_route, test_stages)
print(json.dumps({{module.__name__: module.trained() for module in modules}}))
"""

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow with JAX")


@pytest.fixture(scope="module")
def on_jax():
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["growing", "test_by_teacher", "test_stages"])
def test_both_backends_train_the_same_student(on_jax, name, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    for one, other in zip(on_jax[name], __import__(name).trained(), strict=True):
        for value, expected in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
            close(value, expected)


def test_the_route_is_followed(on_jax):
    for kernel, expected in on_jax["test_route"]:
        close(kernel, expected)
