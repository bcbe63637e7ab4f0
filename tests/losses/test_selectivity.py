"""Neuron selectivity transfer against float64 NumPy written from the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses.selectivity import NeuronSelectivity, neuron_selectivity
from keras_kd.serialization import deserialize, serialize


def reference(teacher, student):
    """The mean over all pairs of channels, one example at a time; maps of equal size."""
    values = []
    for t, s in zip(teacher, student, strict=True):
        sides = [[x[..., i].ravel() / np.linalg.norm(x[..., i]) for i in range(x.shape[-1])] for x in (t, s)]

        def kernel(left, right):
            return np.mean([[np.dot(a, b) ** 2 for b in right] for a in left])

        values.append(kernel(sides[0], sides[0]) + kernel(sides[1], sides[1]) - 2 * kernel(*sides))
    return np.array(values)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [2, 4])
def test_matches_the_formula(assert_matches_the_formula, batch, channels):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(batch, 2, 3, 3)), rng.normal(size=(batch, 2, 3, channels))
    assert_matches_the_formula(neuron_selectivity, reference, teacher, student)


@pytest.mark.parametrize("larger", ["teacher", "student"])
def test_the_larger_map_is_pooled(assert_matches_the_formula, larger):
    rng = np.random.default_rng(0)
    maps = {name: rng.normal(size=(2, 2, 2, 3)) for name in ("teacher", "student")}
    maps[larger] = rng.normal(size=(2, 4, 4, 2))

    def pooled(*sides):
        return reference(*(x if x.shape[1] == 2 else x.reshape(2, 2, 2, 2, 2, 2).mean((2, 4)) for x in sides))

    assert_matches_the_formula(neuron_selectivity, pooled, maps["teacher"], maps["student"])


def test_is_invariant_to_order_sign_and_scale_of_channels():
    teacher = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
    same = teacher[..., [2, 0, 1]] * [-1.0, 3.0, 0.5]
    np.testing.assert_allclose(neuron_selectivity(teacher, same), [0, 0], atol=1e-15)


def test_is_exactly_0_for_equal_maps_and_never_negative():
    teacher = np.random.default_rng(0).normal(size=(4, 3, 3, 4)).astype("float32")
    np.testing.assert_array_equal(neuron_selectivity(teacher, teacher), np.zeros(4))
    assert (np.asarray(neuron_selectivity(teacher, teacher * np.float32(1.1))) >= 0).all()


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_is_finite_at_dead_channels_and_extremes(size):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(2, 2, 2, 3)).astype("float32")
    student = tf.Variable(np.sign(rng.normal(size=(2, 2, 2, 3))).astype("float32") * [0.0, size, size])
    with tf.GradientTape() as tape:
        value = neuron_selectivity(teacher, student)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()


def test_class_matches_the_function_and_round_trips():
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2))
    loss = NeuronSelectivity(teacher="a", student="b")
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss)
    assert float(again(teacher, student)) == pytest.approx(neuron_selectivity(teacher, student).numpy().mean())


def test_runs_in_a_graph_with_an_unknown_batch_and_size():
    loss = NeuronSelectivity()
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2)).astype("float32")
    graph = tf.function(lambda t, s: loss(t, s), input_signature=[tf.TensorSpec((None, None, None, 2))] * 2)
    assert float(graph(teacher, student)) == pytest.approx(float(loss(teacher, student)))


def test_non_maps_are_refused():
    with pytest.raises(ConfigurationError, match="neuron_selectivity.*compares feature maps"):
        NeuronSelectivity().validate_outputs(keras.KerasTensor((None, 4)), keras.KerasTensor((None, 4)))
    with pytest.raises(ConfigurationError, match="compares feature maps"):
        NeuronSelectivity()(np.ones((2, 3)), np.ones((2, 3)))
