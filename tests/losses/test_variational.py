"""Variational information distillation against float64 NumPy written from the paper and the published settings."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.variational import VariationalInformation, variational_information
from keras_kd.serialization import deserialize, serialize

VARIANCE = np.float64([0.5, 5.0, 2.0])


def expected(teacher, mean, variance=VARIANCE):
    """The mean over positions and channels of the negative log-likelihood, without log(2 pi) / 2."""
    values = np.zeros(len(teacher))
    for index in np.ndindex(teacher.shape):
        channel = index[-1]
        values[index[0]] += (teacher[index] - mean[index]) ** 2 / (2 * variance[channel])
        values[index[0]] += np.log(np.sqrt(variance[channel]))
    return values / np.prod(teacher.shape[1:])


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


@pytest.mark.parametrize("shape", [(1, 3), (4, 2, 3), (2, 2, 3, 3)])
def test_matches_the_formula(assert_matches_the_formula, shape):
    teacher, mean = arrays(shape, shape)

    def function(teacher, mean):
        return variational_information(teacher, mean, VARIANCE.astype(np.asarray(teacher).dtype))

    assert_matches_the_formula(function, expected, teacher, mean, rtol=1e-3)


def test_the_optimal_variance_is_the_mean_squared_error():
    """The loss is stationary where the variance equals the mean squared error of the channel."""
    teacher, mean = arrays((6, 3), (6, 3))
    variance = tf.Variable(((teacher - mean) ** 2).mean(0))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(variational_information(teacher, mean, variance))
    np.testing.assert_allclose(tape.gradient(value, variance), np.zeros(3), atol=1e-5)


def relu_regression(loss, features):
    """Three matrices with a ReLU between them, from the trainable weights of the loss."""
    first, second, third = (weight for weight in map(np.asarray, loss.trainable_weights) if weight.ndim == 2)
    return np.maximum(np.maximum(features @ first, 0) @ second, 0) @ third


def pooled(features, size):
    batch, height, width, channels = features.shape
    windows = features.reshape(batch, size[0], height // size[0], size[1], width // size[1], channels)
    return windows.mean((2, 4))


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape", "size"),
    [
        ((2, 3), (2, 5), None),
        ((2, 4, 3), (2, 4, 5), None),
        ((1, 2, 2, 3), (1, 2, 2, 5), None),
        ((2, 2, 2, 3), (2, 4, 4, 5), (2, 2)),
        ((2, 4, 4, 3), (2, 2, 2, 5), (2, 2)),
        ((2, 4, 2, 3), (2, 2, 4, 5), (2, 2)),
    ],
)
def test_class_matches_the_function(teacher_shape, student_shape, size):
    loss = VariationalInformation(initial_variance=2.0)
    teacher, student = arrays(teacher_shape, student_shape)
    value = float(loss(teacher, student))
    if size is not None:
        teacher, student = pooled(teacher, size), pooled(student, size)
    mean = expected(teacher, relu_regression(loss, student), np.full(3, 2.0)).mean()
    assert value == pytest.approx(mean, rel=1e-4)


def test_sizes_without_a_common_factor_are_pooled_to_the_smaller():
    loss = VariationalInformation()
    value = loss(*arrays((2, 5, 5, 3), (2, 3, 3, 2)))
    assert np.isfinite(float(value))


@pytest.mark.parametrize("variance", [2e-5, 0.01, 5.0, 1e3])
def test_the_initial_variance_is_as_configured(variance):
    loss = VariationalInformation(initial_variance=variance)
    loss.build((None, 3), (None, 2))
    np.testing.assert_allclose(loss.variance, np.full(3, variance), rtol=1e-2 if variance < 1e-4 else 1e-4)


def test_all_weights_are_trained():
    loss = VariationalInformation()
    teacher, student = arrays((4, 3), (4, 5))
    student = tf.Variable(student)
    loss.build((None, 3), (None, 5))
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    gradients = tape.gradient(value, [student, *(weight.value for weight in loss.trainable_weights)])
    assert len(gradients) == 5
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_extreme_features_are_finite(size):
    loss = VariationalInformation()
    teacher = np.full((2, 3), size, "float16")
    student = tf.Variable(-np.full((2, 5), size, "float16"))
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    assert np.isfinite(float(value)) and np.isfinite(tape.gradient(value, student)).all()


def test_config_round_trip():
    again = deserialize(serialize(VariationalInformation(teacher="a", student="b", initial_variance=2.0)))
    assert (again.name, again.initial_variance) == ("variational_information_b", 2.0)


@pytest.mark.parametrize("variance", [0.0, 1e-5, -1.0, float("nan")])
def test_an_invalid_variance_is_refused(variance):
    with pytest.raises(ConfigurationError, match="initial_variance"):
        VariationalInformation(initial_variance=variance)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [((None, 3), (None, 4, 4, 3)), ((None, 5, 3), (None, 4, 3)), ((None, None, None, 3), (None, 4, 4, 3))],
)
def test_incompatible_shapes_are_refused(teacher, student):
    shaped = [types.SimpleNamespace(shape=shape) for shape in (teacher, student)]
    with pytest.raises(ConfigurationError, match="known sizes"):
        VariationalInformation().validate_outputs(*shaped)
    VariationalInformation().validate_outputs(shaped[1], shaped[1])


def test_any_batch_and_map_size_in_one_graph():
    loss = VariationalInformation()
    signature = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None, 2))]
    loss.build(*(spec.shape for spec in signature))
    compiled = tf.function(lambda t, s: loss(t, s, context=Context()), input_signature=signature)
    for batch, side in ((1, 2), (3, 4)):
        teacher, student = arrays((batch, side, side, 3), (batch, side, side, 2))
        assert float(compiled(teacher, student)) == pytest.approx(float(loss(teacher, student)), rel=1e-5)


def test_its_weights_are_saved_with_it(tmp_path):
    teacher, student = arrays((4, 3), (4, 5))
    loss, again = VariationalInformation(), VariationalInformation()
    value = float(loss(teacher, student))
    again.build((None, 3), (None, 5))
    again.set_weights(loss.get_weights())
    assert float(again(teacher, student)) == pytest.approx(value)
    assert keras.tree.map_structure(np.shape, loss.get_weights()) == [(3,), (5, 3), (3, 3), (3, 3)]


def test_initial_predictions_have_the_scale_of_the_published_code():
    """Three layers as PyTorch initializes them, uniform within 1 / sqrt(inputs), drawn with NumPy."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    student = rng.normal(size=(200, 64)).astype("float32")

    def published():
        values = student
        for index in range(3):
            limit = 1 / np.sqrt(values.shape[-1])
            values = values @ rng.uniform(-limit, limit, size=(values.shape[-1], 64))
            values = np.maximum(values, 0) if index < 2 else values
        return values.std()

    def ours():
        loss = VariationalInformation()
        loss.build((None, 64), (None, 64))
        values = student
        for layer in loss._regressor:
            values = layer(values)
        return np.std(values)

    expected = np.mean([published() for _ in range(8)])
    assert np.mean([ours() for _ in range(8)]) == pytest.approx(expected, rel=0.15)
