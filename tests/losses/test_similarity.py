"""Similarity-preserving distillation against float64 NumPy written from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.losses import Context
from keras_kd.losses.similarity import SimilarityPreserving, similarity_preserving
from keras_kd.serialization import deserialize, serialize


def gram_rows(features):
    flat = features.reshape(len(features), -1)
    gram = np.array([[np.dot(a, b) for b in flat] for a in flat])
    return np.array([row / max(np.linalg.norm(row), 1e-12) for row in gram])


def expected(teacher, student):
    """Row i of `||G_T - G_S||_F^2 / b^2`, times b."""
    return ((gram_rows(teacher) - gram_rows(student)) ** 2).sum(-1) / len(teacher)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"), [((1, 3), (1, 3)), ((2, 4), (2, 3)), ((5, 2, 3, 2), (5, 3, 2, 1))]
)
def test_matches_the_formula(assert_matches_the_formula, teacher_shape, student_shape):
    assert_matches_the_formula(similarity_preserving, expected, *pair(teacher_shape, student_shape))


def test_the_mean_matches_the_paper():
    teacher, student = pair((5, 4), (5, 3))
    paper = np.linalg.norm(gram_rows(teacher) - gram_rows(student)) ** 2 / 5**2
    assert np.mean(similarity_preserving(teacher, student)) == pytest.approx(paper)


def test_absent_rows_equal_removed_rows():
    teacher, student = pair((5, 4), (5, 3))
    keep = np.array([True, False, True, True, False])
    values = keras.ops.convert_to_numpy(similarity_preserving(teacher, student, present=keep))
    np.testing.assert_allclose(values[keep], expected(teacher[keep], student[keep]))
    np.testing.assert_array_equal(values[~keep], 0)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_extreme_features_have_small_gradients(size):
    """A batch with a zero row and equal rows."""
    teacher = np.float32([[1, 2], [2, 1], [1, 2], [-3, 1]])
    student = tf.Variable(np.float32([[size, 0, 1], [0, 0, 0], [size, 0, 1], [0, -size, 2]]))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(similarity_preserving(teacher, student))
    gradient = tape.gradient(value, student).numpy()
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e6


def test_class_applies_weights_and_round_trips():
    loss = SimilarityPreserving(teacher="a", student="b")
    teacher, student = (features.astype("float32") for features in pair((4, 2, 2, 3), (4, 5)))
    assert float(loss(teacher, student)) == pytest.approx(expected(teacher, student).mean(), rel=1e-5)
    weight = np.float32([1, 0, 2, 1])
    kept = expected(teacher[weight > 0], student[weight > 0])
    weighted = float(loss(teacher, student, sample_weight=weight))
    assert weighted == pytest.approx((kept * weight[weight > 0]).sum() / 4, rel=1e-5)
    again = deserialize(serialize(loss))
    assert again.name == "similarity_preserving_b"
    assert float(again(teacher, student)) == float(loss(teacher, student))


def test_any_batch_size_in_one_graph():
    loss = SimilarityPreserving()
    shapes = [tf.TensorSpec((None, 2, 2, 3)), tf.TensorSpec((None, 5))]
    compiled = tf.function(lambda t, s: loss(t, s, context=Context()), input_signature=shapes)
    for batch in (1, 3):
        teacher, student = (features.astype("float32") for features in pair((batch, 2, 2, 3), (batch, 5)))
        assert float(compiled(teacher, student)) == pytest.approx(expected(teacher, student).mean(), abs=1e-6)
