"""Robust steps on JAX, in a child process, as a process has a single Keras backend."""

import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.append(str(HERE))
import three_steps  # noqa: E402

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow with JAX"),
    pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice"),
]


@pytest.fixture(scope="module")
def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_equal_weights_stay_equal(start_once, environment, tmp_path):
    """Convolution, normalization and activity regularization, three steps of four regimes."""
    three_steps.write_weights(tmp_path)
    child = start_once(sys.executable, HERE / "three_steps.py", tmp_path, cwd=ROOT, env=environment)
    here = three_steps.run(tmp_path)
    finished = child.wait()
    assert finished.returncode == 0, finished.stderr[-3000:]
    for name, values in here.items():
        with np.load(tmp_path / f"{name}_trained.npz") as stored:
            for one, other in zip(values, stored.values(), strict=True):
                np.testing.assert_allclose(one, other, atol=2e-5, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("file", ["distillers/robust/test_attack.py", "adversaries/test_attacks.py"])
def test_the_tests_of_the_attack_pass_on_jax(file, start_once, environment):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", ROOT / "tests" / file]
    finished = start_once(*command, cwd=ROOT, env=environment).wait()
    assert finished.returncode == 0, finished.stdout[-3000:]
