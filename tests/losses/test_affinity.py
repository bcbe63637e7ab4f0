"""Affinity distillation against float64 NumPy written from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses.affinity import AffinityKD, affinity_kd


def affinities(features):
    """The matrix of one example, `[positions, positions]`, divided by their number."""
    rows = features.reshape(-1, features.shape[-1])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1.0)
    return rows @ rows.T / len(rows)


def expected(teacher, student):
    return np.array(
        [np.linalg.norm(affinities(s) - affinities(t), axis=1).sum() for t, s in zip(teacher, student, strict=True)]
    )


@pytest.mark.parametrize(("teacher", "student"), [((2, 2, 3, 4), (2, 2, 3, 2)), ((1, 1, 2, 2), (1, 1, 2, 3))])
def test_matches_the_formula(assert_matches_the_formula, teacher, student):
    assert_matches_the_formula(affinity_kd, expected, *pair(teacher, student))


def test_a_larger_map_is_pooled():
    teacher, student = pair((2, 4, 4, 3), (2, 2, 2, 5))
    pooled = teacher.reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(affinity_kd(teacher, student), expected(pooled, student))


def test_excluded_positions_equal_a_map_without_them():
    teacher, student = (x.astype("float32") for x in pair((2, 3, 4, 3), (2, 3, 4, 2)))
    weight = np.ones((2, 3, 4), "float32")
    weight[:, :, 2:] = 0.0
    loss = AffinityKD()
    value = float(loss(teacher, student, sample_weight=weight))
    cut = expected(teacher[:, :, :2].astype("float64"), student[:, :, :2].astype("float64"))
    assert value == pytest.approx(cut.mean() / 2, rel=1e-4)  # half of the weights of an example are 0


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_the_gradient_is_finite_at_equal_and_zero_positions(size):
    teacher = np.float32(size) * np.ones((1, 2, 2, 3), "float32")
    for features in (teacher.copy(), np.zeros_like(teacher), -teacher):
        student = tf.Variable(features)
        with tf.GradientTape() as tape:
            value = affinity_kd(teacher, student)
        gradient = tape.gradient(value, student).numpy()
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


def test_rounding_has_no_gradient():
    """Equal affinities of maps that are a rotation of each other, up to rounding."""
    teacher = np.random.default_rng(0).normal(size=(1, 3, 3, 2)).astype("float32")
    turn = np.float32([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    student = tf.Variable(teacher @ turn)
    with tf.GradientTape() as tape:
        value = affinity_kd(teacher, student)
    assert float(value[0]) == 0.0 and not tape.gradient(value, student).numpy().any()


def test_vectors_are_refused():
    with pytest.raises(ConfigurationError, match="compares feature maps"):
        AffinityKD().validate_outputs(*(keras.KerasTensor((None, 3)) for _ in range(2)))
