"""Activation boundaries against float64 NumPy written from the paper's equation."""

import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.boundaries import ActivationBoundaries, activation_boundaries
from keras_kd.serialization import deserialize, serialize


def expected(teacher, student, margin=1.0):
    """`|| rho(T) * relu(m - S) + (1 - rho(T)) * relu(m + S) ||^2` with rho(T) = 1 where the teacher is active."""
    values = np.zeros(len(teacher))
    for index in np.ndindex(teacher.shape):
        active = 1.0 if teacher[index] > 0 else 0.0
        hinge = active * max(margin - student[index], 0) + (1 - active) * max(margin + student[index], 0)
        values[index[0]] += hinge**2
    return values


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (4, 3, 2), (2, 3)])
def test_matches_the_formula(assert_matches_the_formula, shape, margin):
    assert_matches_the_formula(
        lambda t, s: activation_boundaries(t, s, margin=margin),
        lambda t, s: expected(t, s, margin),
        *pair(shape, shape),
    )


def test_by_hand():
    teacher = np.float32([[3.0, 3.0, 3.0, -3.0, -3.0, 0.0]])
    student = np.float32([[-1.0, 0.5, 2.0, -2.0, 0.5, 1.0]])
    values = [activation_boundaries(teacher[:, [i]], student[:, [i]]).numpy()[0] for i in range(6)]
    assert values == [4.0, 0.25, 0.0, 0.0, 2.25, 4.0]


def test_only_the_teachers_signs_count():
    teacher, student = pair((3, 4), (3, 4))
    np.testing.assert_array_equal(
        activation_boundaries(teacher, student), activation_boundaries(np.sign(teacher) * 9, student)
    )


def test_gradient_at_the_margin_and_at_zero():
    teacher, student = np.float32([[1, 1, -1, -1]]), tf.Variable(np.float32([[1, 0, -1, 0]]))
    with tf.GradientTape() as tape:
        value = activation_boundaries(teacher, student)
    np.testing.assert_array_equal(tape.gradient(value, student), [[0, -2, 0, 2]])


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_is_finite_at_zeros_and_extremes(size):
    teacher = np.sign(np.random.default_rng(0).normal(size=(2, 2, 2, 3))).astype("float32") * size
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = activation_boundaries(teacher, student)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()


def test_excluded_positions_have_no_influence():
    teacher, student = pair((3, 4, 2), (3, 4, 2))
    present = np.array([[True] * 4, [True, True, False, False], [False] * 4])
    values = np.asarray(activation_boundaries(teacher, student, present=present))
    np.testing.assert_allclose(values[0], expected(teacher[:1], student[:1])[0])
    np.testing.assert_allclose(values[1], expected(teacher[1:2, :2], student[1:2, :2])[0])
    assert values[2] == 0


def test_each_earlier_layer_has_half_the_weight():
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 4, 2, 2, 3)).astype("float32")
    loss = ActivationBoundaries(margin=0.5)
    parts = [expected(t, s, 0.5).mean() for t, s in zip(teacher, student, strict=True)]
    assert float(loss(list(teacher), list(student))) == pytest.approx(parts[0] / 4 + parts[1] / 2 + parts[2], rel=1e-5)
    assert not loss.weights


def test_the_connector_is_learned_for_other_channels():
    teacher, student = (x.astype("float32") for x in pair((3, 2, 2, 2), (3, 2, 2, 3)))
    loss = ActivationBoundaries()
    value = float(loss(teacher, student))
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(1, 1, 3, 2), (2,), (2,)]
    mapped = student @ np.asarray(loss.trainable_weights[0])[0, 0]
    mapped = (mapped - mapped.mean((0, 1, 2))) / np.sqrt(mapped.var((0, 1, 2)) + 1e-5)
    assert value == pytest.approx(expected(teacher, mapped).mean(), rel=1e-4)
    for projector, count in (("conv", 3), ("auto", 0), (None, 0)):
        loss = ActivationBoundaries(projector=projector)
        loss.build((None, 2, 2, 3), (None, 2, 2, 3))
        assert len(loss.trainable_weights) == count


def test_config_round_trip():
    loss = ActivationBoundaries(teacher=["a", "b"], student=["c", "d"], margin=2.0, projector=None)
    again = deserialize(serialize(loss))
    assert (again.name, again.margin, again.projector) == ("activation_boundaries_c_d", 2.0, None)
    assert serialize(again) == serialize(loss)


@pytest.mark.parametrize("settings", [{"margin": -1.0}, {"margin": float("nan")}, {"projector": "linear"}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        ActivationBoundaries(**settings)


def test_incompatible_shapes_are_refused():
    with pytest.raises(ConfigurationError, match="2 of the teacher, 1 of the student"):
        ActivationBoundaries().build([(None, 4, 4, 2)] * 2, [(None, 4, 4, 2)])
    with pytest.raises(ConfigurationError, match="projector=None does not convert"):
        ActivationBoundaries(projector=None).build([(None, 4, 4, 2)], [(None, 4, 4, 3)])


def test_any_batch_size_in_one_graph():
    loss = ActivationBoundaries()
    compiled = tf.function(
        lambda t, s: loss([t], [s], context=Context()), input_signature=[tf.TensorSpec((None, 2, 2, 3))] * 2
    )
    for batch in (1, 3):
        teacher, student = (x.astype("float32") for x in pair((batch, 2, 2, 3), (batch, 2, 2, 3)))
        assert float(compiled(teacher, student)) == pytest.approx(expected(teacher, student).mean(), rel=1e-5)
