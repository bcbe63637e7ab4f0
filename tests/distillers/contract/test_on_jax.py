"""The contract on JAX, in a child process, as a process has a single Keras backend."""

import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import every_loss
import keras
import numpy as np
import pytest
import twenty_steps

import keras_kd as kd

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEVICES = "--xla_force_host_platform_device_count=2"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow with JAX")


def finish(child):
    finished = child.wait()
    assert finished.returncode in (0, 1), finished.stderr[-3000:]
    return finished


@pytest.fixture(scope="module")
def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def outcomes(start, environment, folder, files):
    """The outcome of each test of `files` on JAX: {file::test: message, empty if it passed}."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", f"--junitxml={report}", *files]
    finished = finish(start(*command, cwd=ROOT, env=environment))
    cases = ElementTree.parse(report).getroot().iter("testcase")
    found = {f"{case.get('classname')}::{case.get('name')}": [part.get("message") for part in case] for case in cases}
    assert found, finished.stdout[-3000:]
    failed = (name for name, messages in found.items() if messages and not messages[0].startswith(SKIPPED))
    return found, {name: found[name][0] for name in failed}


SKIPPED = ("Keras does not compile", "TensorFlow reads", "compares TensorFlow")


def test_the_contract_holds_on_jax(start_once, environment, tmp_path):
    found, failed = outcomes(start_once, environment, tmp_path, [HERE / "test_step_contract.py"])
    assert len(found) > 15 and failed == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("twenty_steps")
    twenty_steps.write_inputs(made)
    return made


@pytest.fixture(scope="module")
def on_jax(start_once, environment, folder):
    command = [sys.executable, "-W", "ignore", HERE / "twenty_steps.py", folder]
    finished = finish(start_once(*command, cwd=ROOT, env={**environment, "XLA_FLAGS": DEVICES}))
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads((folder / "results.json").read_text())


def weights(folder, name):
    with np.load(folder / f"{name}_trained.npz") as stored:
        return list(stored.values())


def assert_close(one, other, atol):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_equal_weights_stay_equal_for_twenty_steps(folder, on_jax):
    """BatchNorm included: on arrays, with an augmenting pipeline, and with the cache written by JAX."""
    students, histories = twenty_steps.run(folder)
    for name, student in students.items():
        assert_close(student.get_weights(), weights(folder, name), atol=1e-5)
        for key, values in histories[name].items():
            np.testing.assert_allclose(on_jax["histories"][name][key], values, rtol=1e-4, err_msg=key)
    moved = [np.abs(a - b).max() for a, b in zip(weights(folder, "arrays"), weights(folder, "pipeline"), strict=True)]
    assert max(moved) > 1e-3


@pytest.fixture(scope="module")
def on_tensorflow(folder):
    return every_loss.run(folder)


@pytest.mark.parametrize("name", every_loss.NAMES)
def test_every_loss_has_equal_values_and_gradients(folder, on_jax, on_tensorflow, name):
    trained, logs = on_tensorflow
    for step, (own, theirs) in enumerate(zip(logs[name], on_jax["every_loss"][name], strict=True)):
        assert own == pytest.approx(theirs, rel=1e-4, abs=1e-6), step
    assert_close(trained[name], weights(folder, f"every_loss_{name}"), atol=1e-5)


def test_training_on_jax_does_not_load_tensorflow(on_jax):
    assert on_jax["loaded_tensorflow"] is False


def test_two_devices_agree_with_one(folder, on_jax):
    """The teacher was created before the distribution was set."""
    assert on_jax["num_devices"] == 2
    assert_close(weights(folder, "devices"), weights(folder, "arrays"), atol=1e-6)


def test_a_student_from_jax_loads_and_exports_here(folder, on_jax, tmp_path):
    student = keras.models.load_model(folder / "student.keras")
    x, _ = twenty_steps.arrays()
    expected = np.load(folder / "predicted.npy")
    np.testing.assert_allclose(student.predict(x, verbose=0), expected, atol=1e-5)
    result = kd.export.export_tflite(student, tmp_path / "student.tflite", samples=x)
    assert result.path.exists() and result.max_difference < 1e-4


@pytest.mark.long
def test_the_tests_of_the_distiller_pass_on_jax(start_once, environment, tmp_path):
    files = [ROOT / "tests" / "distillers" / f"test_{name}.py" for name in NEUTRAL]
    _, failed = outcomes(start_once, environment, tmp_path, files)
    assert failed == {}


NEUTRAL = ("construction", "defaults", "fit", "saving", "masks", "taps", "unlabeled")
