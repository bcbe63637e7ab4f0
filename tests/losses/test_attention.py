"""Attention transfer against float64 NumPy written from the formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses.attention import AttentionTransfer, attention_map, attention_transfer
from keras_kd.losses.feature_maps import adaptive_average_pool
from keras_kd.serialization import deserialize, serialize


def pooled(features, size):
    """Each cell is the mean of the positions that it overlaps."""
    batch, height, width, channels = features.shape
    result = np.zeros((batch, *size, channels))
    for i, j in np.ndindex(*size):
        rows = slice(i * height // size[0], int(np.ceil((i + 1) * height / size[0])))
        columns = slice(j * width // size[1], int(np.ceil((j + 1) * width / size[1])))
        result[:, i, j] = features[:, rows, columns].mean((1, 2))
    return result


def attention(features, power):
    energy = (np.abs(features) ** power).mean(-1).reshape(len(features), -1)
    return energy / np.linalg.norm(energy, axis=-1, keepdims=True)


def expected(power):
    def reference(teacher, student):
        size = tuple(map(min, teacher.shape[1:3], student.shape[1:3]))
        teacher, student = pooled(teacher, size), pooled(student, size)
        return ((attention(teacher, power) - attention(student, power)) ** 2).mean(-1)

    return reference


@pytest.mark.parametrize("power", [2, 1.5, 4])
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ((1, 2, 2, 3), (1, 2, 2, 3)),
        ((3, 4, 4, 2), (3, 2, 2, 4)),
        ((2, 3, 2, 2), (2, 5, 4, 3)),
        ((2, 5, 2, 2), (2, 3, 4, 2)),
    ],
)
def test_matches_the_formula(assert_matches_the_formula, power, teacher, student):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=teacher), rng.normal(size=student)
    assert_matches_the_formula(lambda t, s: attention_transfer(t, s, power), expected(power), teacher, student)


def test_pooling_by_hand():
    row = np.arange(5.0).reshape(1, 1, 5, 1)
    np.testing.assert_allclose(np.ravel(adaptive_average_pool(row, (1, 3))), [0.5, 2.0, 3.5])


def test_is_invariant_to_the_map_size():
    teacher = np.random.default_rng(0).normal(size=(2, 3, 3, 2))
    np.testing.assert_allclose(attention_transfer(teacher, -7.0 * teacher), [0, 0], atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(attention_map(teacher), axis=-1), [1, 1])


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_is_finite_at_zeros_and_extremes(size, power):
    teacher = np.ones((2, 2, 2, 3), "float32")
    student = tf.Variable(np.sign(np.random.default_rng(0).normal(size=(2, 2, 2, 3))).astype("float32") * size)
    with tf.GradientTape() as tape:
        value = attention_transfer(teacher, student, power)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()
    np.testing.assert_array_equal(attention_transfer(teacher * 0, teacher * 0, power), [0, 0])


def test_class_matches_the_function_and_round_trips():
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2))
    loss = AttentionTransfer(power=3, teacher="a", student="b")
    again = deserialize(serialize(loss))
    assert (again.power, again.teacher, again.name) == (3.0, "a", "attention_transfer_b")
    assert serialize(again) == serialize(loss)
    assert float(again(teacher, student)) == pytest.approx(attention_transfer(teacher, student, 3).numpy().mean())


def test_runs_in_a_graph_with_an_unknown_batch_and_size():
    loss = AttentionTransfer()
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2)).astype("float32")
    graph = tf.function(lambda t, s: loss(t, s), input_signature=[tf.TensorSpec((None, None, None, 2))] * 2)
    assert float(graph(teacher, student)) == pytest.approx(float(loss(teacher, student)))


@pytest.mark.parametrize(
    ("shape", "message"), [((None, 4), "shapes \\(batch, height"), ((None, None, None, 4), "known heights")]
)
def test_non_maps_and_unknown_sizes_are_refused(shape, message):
    with pytest.raises(ConfigurationError, match=message):
        AttentionTransfer().validate_outputs(keras.KerasTensor((None, 2, 2, 4)), keras.KerasTensor(shape))


def test_vectors_are_refused_without_a_distiller_too():
    with pytest.raises(ConfigurationError, match="compares feature maps"):
        AttentionTransfer()(np.ones((2, 3)), np.ones((2, 3)))


@pytest.mark.parametrize("power", [0.5, "2"])
def test_a_power_below_1_is_refused(power):
    with pytest.raises(ConfigurationError, match="1 <= power"):
        AttentionTransfer(power=power)
