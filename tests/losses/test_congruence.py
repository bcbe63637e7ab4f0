"""Correlation congruence against float64 NumPy written from the paper."""

import math
import types

import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.congruence import CorrelationCongruence, correlation_congruence
from keras_kd.serialization import deserialize, serialize


def kernel_rows(features, gamma=0.4, order=2):
    flat = features.reshape(len(features), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)

    def kernel(a, b):
        powers = [(2 * gamma) ** p / math.factorial(p) * np.dot(a, b) ** p for p in range(order + 1)]
        return math.exp(-2 * gamma) * sum(powers)

    return np.array([[kernel(a, b) for b in flat] for a in flat])


def expected(teacher, student, **settings):
    """Row i of `||K_T - K_S||_F^2 / b^2`, times b."""
    return ((kernel_rows(teacher, **settings) - kernel_rows(student, **settings)) ** 2).mean(-1)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"), [((1, 3), (1, 3)), ((2, 4), (2, 3)), ((5, 2, 3, 2), (5, 3, 2, 1))]
)
def test_matches_the_formula(assert_matches_the_formula, teacher_shape, student_shape):
    assert_matches_the_formula(correlation_congruence, expected, *pair(teacher_shape, student_shape))


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 1), (1.5, 3)])
def test_other_kernels(assert_matches_the_formula, gamma, order):
    settings = {"gamma": gamma, "order": order}
    assert_matches_the_formula(
        lambda t, s: correlation_congruence(t, s, **settings),
        lambda t, s: expected(t, s, **settings),
        *pair((4, 3), (4, 2)),
    )


def test_a_high_order_is_the_gaussian_kernel():
    teacher, student = pair((4, 3), (4, 2))

    def gaussian(features):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        return np.exp(-0.4 * ((unit[:, None] - unit[None]) ** 2).sum(-1))

    exact = ((gaussian(teacher) - gaussian(student)) ** 2).mean(-1)
    np.testing.assert_allclose(correlation_congruence(teacher, student, order=12), exact, rtol=1e-7)


def test_absent_rows_equal_removed_rows():
    teacher, student = pair((5, 4), (5, 3))
    keep = np.array([True, False, True, True, False])
    values = np.asarray(correlation_congruence(teacher, student, present=keep))
    np.testing.assert_allclose(values[keep], expected(teacher[keep], student[keep]))
    np.testing.assert_array_equal(values[~keep], 0)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_extreme_features_have_small_gradients(size):
    """A batch with a zero row and equal rows."""
    teacher = np.float32([[1, 2], [2, 1], [1, 2], [-3, 1]])
    student = tf.Variable(np.float32([[size, 0, 1], [0, 0, 0], [size, 0, 1], [0, -size, 2]]))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(correlation_congruence(teacher, student))
    gradient = tape.gradient(value, student).numpy()
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e3


def test_both_embeddings_are_learned():
    teacher, student = (x.astype("float32") for x in pair((4, 2, 2), (4, 3)))
    loss = CorrelationCongruence(embedding_size=6)
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(4, 6), (6,), (3, 6), (6,)]
    slopes = tape.gradient(value, [weight.value for weight in loss.trainable_weights])
    assert all(np.abs(slope).max() > 0 for slope in slopes)
    weights = loss.get_weights()
    mapped = teacher.reshape(4, 4) @ weights[0] + weights[1], student @ weights[2] + weights[3]
    assert float(value) == pytest.approx(expected(*mapped).mean(), rel=1e-4)


def test_constant_embeddings_make_the_loss_0():
    """Why the default has none: the student need not change."""
    teacher, student = (x.astype("float32") for x in pair((16, 8), (16, 4)))
    loss = CorrelationCongruence(embedding_size=6)
    assert float(loss(teacher, student)) > 1e-3
    loss.set_weights([np.zeros((8, 6)), np.ones(6), np.zeros((4, 6)), np.ones(6)])
    assert float(loss(teacher, student)) == pytest.approx(0, abs=1e-12)
    assert float(CorrelationCongruence()(teacher, student)) > 1e-3


def test_class_applies_weights_and_round_trips():
    loss = CorrelationCongruence(teacher="a", student="b", gamma=0.5, order=3)
    teacher, student = (features.astype("float32") for features in pair((4, 2, 2, 3), (4, 5)))
    settings = {"gamma": 0.5, "order": 3}
    assert float(loss(teacher, student)) == pytest.approx(expected(teacher, student, **settings).mean(), rel=1e-5)
    weight = np.float32([1, 0, 2, 1])
    kept = expected(teacher[weight > 0], student[weight > 0], **settings)
    weighted = float(loss(teacher, student, sample_weight=weight))
    assert weighted == pytest.approx((kept * weight[weight > 0]).sum() / 4, rel=1e-5)
    again = deserialize(serialize(loss))
    assert (again.name, again.gamma, again.order) == ("correlation_congruence_b", 0.5, 3)
    assert float(again(teacher, student)) == float(loss(teacher, student))


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": "a"}, {"order": 0}, {"embedding_size": 0}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        CorrelationCongruence(**settings)


def test_an_embedding_needs_known_sizes():
    free, known = (types.SimpleNamespace(shape=shape) for shape in ((None, None, 3), (None, 4, 3)))
    CorrelationCongruence().validate_outputs(free, known)
    with pytest.raises(ConfigurationError, match="features of a known size"):
        CorrelationCongruence(embedding_size=8).validate_outputs(free, known)


def test_any_batch_size_in_one_graph():
    loss = CorrelationCongruence()
    shapes = [tf.TensorSpec((None, 2, 2, 3)), tf.TensorSpec((None, 5))]
    compiled = tf.function(lambda t, s: loss(t, s, context=Context()), input_signature=shapes)
    for batch in (1, 3):
        teacher, student = (features.astype("float32") for features in pair((batch, 2, 2, 3), (batch, 5)))
        assert float(compiled(teacher, student)) == pytest.approx(expected(teacher, student).mean(), abs=1e-6)
