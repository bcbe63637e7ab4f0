"""Models that cannot be distilled are rejected before training; the teacher is never changed."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.distillers import checks
from keras_kd.errors import ConfigurationError
from keras_kd.teachers import Ensemble, FrozenTeacher

L = keras.layers


def model(*body):
    return keras.Sequential([keras.Input((4,)), *body])


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    "student",
    [lambda: model(L.Activation("linear")), lambda: model(L.Dense(3, trainable=False))],
    ids=["no weights", "frozen"],
)
def test_a_student_with_nothing_to_train_is_refused(student):
    distiller = kd.Distiller(
        model(L.Dense(3)), student(), student_outputs="logits", losses=[lambda t, s: 0.0 * s[:, 0]]
    )
    with pytest.raises(ConfigurationError, match="nothing to train.*trainable = True"):
        distiller.compile("sgd", loss=from_logits())


def same_model():
    one = model(L.Dense(3))
    return one, one


def same_layer():
    shared = L.Dense(5)
    return model(shared, L.Dense(3)), model(shared, L.Dense(3))


def teacher_inside():
    teacher = model(L.Dense(3))
    return teacher, model(teacher, L.Dense(3))


def same_means():
    shared = L.BatchNormalization(center=False, scale=False)
    return model(shared, L.Dense(3)), model(shared, L.Dense(3))


def member_of_an_ensemble():
    one = model(L.Dense(3))
    return Ensemble([model(L.Dense(3)), one]), one


def wrapped():
    one = model(L.Dense(3))
    return FrozenTeacher(one), one


@pytest.mark.parametrize("make", [same_model, same_layer, teacher_inside, same_means, member_of_an_ensemble, wrapped])
def test_weights_that_are_shared_with_the_teacher_are_refused(make):
    distiller = kd.Distiller(*make())
    with pytest.raises(ConfigurationError, match="share weights.*change the teacher.*clone_model"):
        distiller.compile("sgd", loss=from_logits())


def test_a_shared_layer_that_is_frozen_is_taken_and_stays():
    shared = [L.Dense(5), L.BatchNormalization()]
    teacher = model(*shared, L.Dense(3))
    for layer in shared:
        layer.trainable = False
    before = [w.copy() for w in teacher.get_weights()]
    distiller = kd.Distiller(teacher, model(*shared, L.Dense(3)))
    distiller.compile("sgd", loss=from_logits())
    distiller.fit(np.random.default_rng(0).normal(size=(8, 4)), np.zeros(8), verbose=0)
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sharing_is_seen_in_the_first_batch_where_the_student_is_not_built():
    shared = L.Dense(3)
    distiller = kd.Distiller(model(shared), keras.Sequential([shared]))
    distiller.compile("sgd", loss=from_logits())
    with pytest.raises(ConfigurationError, match="share weights"):
        distiller.fit(np.ones((4, 4)), np.zeros(4), verbose=0)


def test_a_distiller_is_not_exported():
    distiller = kd.Distiller(model(L.Dense(3)), model(L.Dense(3)))
    with pytest.raises(ConfigurationError, match=r"distiller\.student\.export"):
        distiller.export("somewhere")


@pytest.mark.parametrize(
    ("backend", "advice"), [("torch", "Set"), ("elephant", "Set"), ("jax", "'keras_kd[jax]', or set")]
)
def test_a_missing_backend_is_named(backend, advice):
    if backend == "torch" and importlib.util.find_spec("torch"):
        pytest.skip("the message is about a package that is missing")
    code = (
        "import sys; sys.modules['jax'] = None  # as if it were not installed\n"
        "import keras_kd as kd\ntry:\n    kd.Distiller(None, None)\nexcept kd.errors.ConfigurationError as e: print(e)"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert backend in result.stdout and f"{advice} KERAS_BACKEND=tensorflow" in result.stdout, result.stderr


def test_a_backend_without_a_training_step_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert checks.training_step() is object
    with pytest.raises(ConfigurationError, match="KERAS_BACKEND=jax"):
        checks.check_backend()
