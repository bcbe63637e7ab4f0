"""Relational distillation against float64 NumPy written from the paper, averaged as in the authors' code."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses.relational import RelationalKD, relational_angle, relational_distance
from keras_kd.serialization import deserialize, serialize


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def relative_distances(features):
    flat = features.reshape(len(features), -1)
    pairs = list(itertools.permutations(range(len(flat)), 2))
    found = {(i, j): max(np.sqrt(((flat[i] - flat[j]) ** 2).sum()), 1e-6) for i, j in pairs}
    mean = np.mean(list(found.values())) if pairs else 1.0
    return {pair: distance / mean for pair, distance in found.items()}


def expected_distance(teacher, student):
    """Row i of the sum over distinct pairs, over b^2, times b."""
    t, s = relative_distances(teacher), relative_distances(student)
    rows = np.zeros(len(teacher))
    for i, j in t:
        rows[i] += huber(t[i, j] - s[i, j])
    return rows / len(teacher)


def cosine_at(features, i, j, k):
    flat = features.reshape(len(features), -1)
    a, b = flat[j] - flat[i], flat[k] - flat[i]
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms > 0 else 0.0


def expected_angle(teacher, student):
    """Row i (the vertex of the angle) of the sum over triples, over b^3, times b."""
    batch = len(teacher)
    rows = np.zeros(batch)
    for i, j, k in itertools.product(range(batch), repeat=3):
        rows[i] += huber(cosine_at(teacher, i, j, k) - cosine_at(student, i, j, k))
    return rows / batch**2


FORMULAS = [(relational_distance, expected_distance), (relational_angle, expected_angle)]


@pytest.mark.parametrize(("function", "reference"), FORMULAS)
@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"),
    [((1, 3), (1, 3)), ((3, 1), (3, 2)), ((5, 4), (5, 3)), ((4, 2, 2, 1), (4, 3, 2))],
)
def test_matches_the_formula(assert_matches_the_formula, function, reference, teacher_shape, student_shape):
    assert_matches_the_formula(function, reference, *pair(teacher_shape, student_shape))


@pytest.mark.parametrize(("function", "reference"), FORMULAS)
def test_a_large_difference_is_linear(function, reference):
    """Points on a line in a different order: relative distances and cosines differ by more than 1."""
    teacher, student = np.float64([[0], [1], [2], [50]]), np.float64([[1], [50], [0], [2]])
    np.testing.assert_allclose(function(teacher, student), reference(teacher, student))


@pytest.mark.parametrize(("function", "reference"), FORMULAS)
def test_absent_rows_equal_removed_rows(function, reference):
    teacher, student = pair((5, 4), (5, 3))
    keep = np.array([True, False, True, True, False])
    values = keras.ops.convert_to_numpy(function(teacher, student, present=keep))
    np.testing.assert_allclose(values[keep], reference(teacher[keep], student[keep]))
    np.testing.assert_array_equal(values[~keep], 0)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("function", [relational_distance, relational_angle])
def test_one_or_two_examples_have_no_relations(function, batch):
    teacher, student = (features.astype("float32") for features in pair((batch, 4), (batch, 3)))
    student = tf.Variable(student)
    with tf.GradientTape() as tape:
        values = function(teacher, student)
    np.testing.assert_allclose(values, np.zeros(batch), atol=1e-6)
    np.testing.assert_allclose(tape.gradient(values, student), np.zeros((batch, 3)), atol=1e-6)


@pytest.mark.parametrize(("function", "reference"), FORMULAS)
@pytest.mark.parametrize(
    "student",
    [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4, 3) * 1e4, [[1, 2, 3], [1, 2, 3], [0, 0, 0], [60, -60, 60]]],
    ids=["zeros", "all equal", "large", "two equal"],
)
def test_equal_and_extreme_features_have_small_gradients(function, reference, student):
    teacher = np.float32([[1, 2], [3, -60], [1, 2], [-1e4, 1e4]])
    student = tf.Variable(np.float32(student))
    with tf.GradientTape() as tape:
        values = function(teacher, student)
    np.testing.assert_allclose(
        values, reference(np.float64(teacher), np.float64(student.numpy())), rtol=1e-4, atol=1e-6
    )
    gradient = tape.gradient(values, student).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1e3


def test_class_applies_settings_and_round_trips():
    teacher, student = (features.astype("float32") for features in pair((4, 2, 2, 3), (4, 5)))
    loss = RelationalKD(teacher="a", student="b")
    whole = 25 * expected_distance(teacher, student).mean() + 50 * expected_angle(teacher, student).mean()
    assert float(loss(teacher, student)) == pytest.approx(whole, rel=1e-5)
    one = RelationalKD(distance_weight=2.0, angle_weight=0.0)
    assert float(one(teacher, student)) == pytest.approx(2 * expected_distance(teacher, student).mean(), rel=1e-5)
    again = deserialize(serialize(one))
    assert (again.distance_weight, again.angle_weight) == (2.0, 0.0)
    assert serialize(again) == serialize(one)
    with pytest.raises(ConfigurationError, match="angle_weight"):
        RelationalKD(angle_weight=-1)


def test_a_weight_of_0_equals_removing_the_row():
    teacher, student = (features.astype("float32") for features in pair((4, 3), (4, 5)))
    loss = RelationalKD()
    weighted = loss(teacher, student, sample_weight=np.float32([1, 0, 1, 1])) * 4
    keep = [0, 2, 3]
    assert float(weighted) == pytest.approx(float(loss(teacher[keep], student[keep]) * 3), rel=1e-5)


def test_any_batch_size_in_one_graph():
    loss = RelationalKD(angle_weight=1.0, distance_weight=1.0)
    compiled = tf.function(
        lambda t, s: loss(t, s), input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((None, 5))]
    )
    for batch in (1, 3):
        teacher, student = (features.astype("float32") for features in pair((batch, 3), (batch, 5)))
        whole = expected_distance(teacher, student).mean() + expected_angle(teacher, student).mean()
        assert float(compiled(teacher, student)) == pytest.approx(whole, abs=1e-5)
