"""Probabilistic knowledge transfer against float64 NumPy written from the authors' description."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.losses.probabilistic import ProbabilisticTransfer, probabilistic_transfer
from keras_kd.serialization import deserialize, serialize


def neighbors(features):
    flat = features.reshape(len(features), -1)
    unit = np.array([row / (np.linalg.norm(row) + 1e-7) for row in flat])
    kernel = np.array([[max(1 + np.dot(a, b), 0.0) / 2 for b in unit] for a in unit])
    return np.array([row / row.sum() for row in kernel])


def expected(teacher, student):
    """Row i of the mean over the [b, b] matrix, times b."""
    t, s = neighbors(teacher), neighbors(student)
    return (t * np.log((t + 1e-7) / (s + 1e-7))).mean(-1)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"), [((1, 3), (1, 3)), ((2, 4), (2, 3)), ((5, 2, 3, 2), (5, 3, 2, 1))]
)
def test_matches_the_formula(assert_matches_the_formula, teacher_shape, student_shape):
    teacher, student = pair(teacher_shape, student_shape)
    assert_matches_the_formula(probabilistic_transfer, expected, teacher, student, atol=1e-6)


def test_absent_rows_equal_removed_rows():
    teacher, student = pair((5, 4), (5, 3))
    keep = np.array([True, False, True, True, False])
    values = keras.ops.convert_to_numpy(probabilistic_transfer(teacher, student, present=keep))
    np.testing.assert_allclose(values[keep], expected(teacher[keep], student[keep]), atol=1e-12)
    np.testing.assert_array_equal(values[~keep], 0)


@pytest.mark.parametrize("size", [1e-4, 60.0, 1e4])
def test_zeros_opposites_and_extremes_have_finite_values_and_gradients(size):
    teacher = np.float32([[1, 2], [0, 0], [-1, -2], [-3, 1]])
    student = tf.Variable(np.float32([[size, 1, 1], [0, 0, 0], [size, 1, 1], [-size, -1, -1]]))
    with tf.GradientTape() as tape:
        values = probabilistic_transfer(teacher, student)
    # rounding of a similarity near 0 is as large as the formula's 1e-7, hence 1e-2
    np.testing.assert_allclose(values, expected(np.float64(teacher), np.float64(student.numpy())), rtol=1e-2, atol=1e-6)
    assert np.isfinite(tape.gradient(values, student).numpy()).all()


def test_a_row_of_zeros_has_a_small_gradient():
    student = tf.Variable(np.float32([[1, 2, 0], [0, 0, 0], [0, 1, 1]]))
    with tf.GradientTape() as tape:
        values = probabilistic_transfer(np.float32([[1, 2], [3, 0], [-1, 2]]), student)
    assert np.abs(tape.gradient(values, student)).max() < 1.0


def test_opposites_in_many_dimensions_survive_rounding():
    """In float32, the cosine of a long vector and its negative is 2e-5 below -1."""
    student = np.full((2, 50_000), 0.1, "float32") * np.float32([[1], [-1]])
    assert np.isfinite(probabilistic_transfer(np.eye(2, dtype="float32"), student)).all()


def test_class_applies_weights_and_round_trips():
    loss = ProbabilisticTransfer(teacher="a", student="b")
    teacher, student = (features.astype("float32") for features in pair((4, 2, 2, 3), (4, 5)))
    assert float(loss(teacher, student)) == pytest.approx(expected(teacher, student).mean(), rel=1e-4)
    keep = [0, 2, 3]
    weighted = loss(teacher, student, sample_weight=np.float32([1, 0, 1, 1])) * 4
    assert float(weighted) == pytest.approx(expected(teacher[keep], student[keep]).sum(), rel=1e-4)
    again = deserialize(serialize(loss))
    assert again.name == "probabilistic_transfer_b"
    assert float(again(teacher, student)) == float(loss(teacher, student))


def test_any_batch_size_in_one_graph():
    loss = ProbabilisticTransfer()
    compiled = tf.function(
        lambda t, s: loss(t, s), input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None, 5))]
    )
    for batch in (1, 3):
        teacher, student = (features.astype("float32") for features in pair((batch, 3), (batch, 5)))
        assert float(compiled(teacher, student)) == pytest.approx(expected(teacher, student).mean(), abs=1e-6)
