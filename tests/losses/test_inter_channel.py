"""Inter-channel correlation against float64 NumPy written from the formula."""

import types

import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.inter_channel import InterChannelCorrelation, inter_channel_correlation
from keras_kd.serialization import deserialize, serialize


def correlations(features):
    """The inner product of each pair of channels of one example, in rows of length 1."""
    channels = [features[..., i].ravel() for i in range(features.shape[-1])]
    gram = np.array([[np.dot(a, b) for b in channels] for a in channels])
    return gram / np.maximum(np.linalg.norm(gram, axis=1, keepdims=True), 1e-12)


def expected(teacher, student):
    """`||G_T - G_S||^2 / channels` of each example, as published."""
    pairs = zip(teacher, student, strict=True)
    return np.array([np.sum((correlations(t) - correlations(s)) ** 2) / t.shape[-1] for t, s in pairs])


def expected_in_cells(teacher, student, grid):
    """The mean over the cells of a grid."""

    def cell(maps, i, j):
        height, width = maps.shape[1] // grid, maps.shape[2] // grid
        return maps[:, i * height : (i + 1) * height, j * width : (j + 1) * width]

    cells = [(i, j) for i in range(grid) for j in range(grid)]
    return np.mean([expected(cell(teacher, i, j), cell(student, i, j)) for i, j in cells], axis=0)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"), [((1, 2, 2, 3), (1, 2, 2, 3)), ((3, 2, 3, 2), (3, 4, 1, 2)), ((2, 4, 3),) * 2]
)
def test_matches_the_formula(assert_matches_the_formula, teacher_shape, student_shape):
    assert_matches_the_formula(inter_channel_correlation, expected, *pair(teacher_shape, student_shape))


def test_each_cell_of_the_grid_has_its_own_correlations(assert_matches_the_formula):
    teacher, student = pair((2, 4, 6, 2), (2, 4, 4, 2))
    assert_matches_the_formula(
        lambda t, s: inter_channel_correlation(t, s, grid=2), lambda t, s: expected_in_cells(t, s, 2), teacher, student
    )
    whole, cells = (inter_channel_correlation(teacher, student, grid=grid).numpy() for grid in (1, 2))
    assert not np.allclose(whole, cells)


def test_is_invariant_to_the_scale_of_the_features():
    teacher, student = pair((3, 2, 2, 4), (3, 2, 2, 4))
    np.testing.assert_allclose(inter_channel_correlation(teacher, 5 * student), expected(teacher, student))
    np.testing.assert_allclose(inter_channel_correlation(teacher, -0.1 * teacher), np.zeros(3), atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_is_finite_at_dead_channels_and_extremes(size):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(2, 2, 2, 3)).astype("float32")
    student = tf.Variable(np.sign(rng.normal(size=(2, 2, 2, 3))).astype("float32") * np.float32([0.0, size, size]))
    with tf.GradientTape() as tape:
        value = inter_channel_correlation(teacher, student)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()


def test_the_projector_is_learned_even_for_equal_channels():
    teacher, student = (x.astype("float32") for x in pair((3, 2, 2, 4), (3, 3, 3, 4)))
    loss = InterChannelCorrelation()
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    kernel = loss.trainable_weights[0]
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(1, 1, 4, 4), (4,), (4,)]
    assert np.abs(tape.gradient(value, kernel.value)).max() > 0
    mapped = student @ np.asarray(kernel)[0, 0]
    mapped = (mapped - mapped.mean((0, 1, 2))) / np.sqrt(mapped.var((0, 1, 2)) + 1e-5)
    assert float(value) == pytest.approx(expected(teacher, mapped).mean(), rel=1e-4)
    loss = InterChannelCorrelation(projector="auto")
    loss(teacher, student)
    assert not loss.weights


def test_masked_positions_equal_removed_positions():
    teacher, student = (x.astype("float32") for x in pair((2, 5, 3), (2, 5, 3)))
    masked = tf.convert_to_tensor(student)
    masked._keras_mask = tf.constant([[True] * 3 + [False] * 2] * 2)
    loss = InterChannelCorrelation(projector=None)
    assert float(loss(teacher, masked)) == pytest.approx(expected(teacher[:, :3], student[:, :3]).mean(), rel=1e-5)
    with pytest.raises(ConfigurationError, match="different positions"):
        loss(teacher[:, :4], masked)


def test_config_round_trip():
    loss = InterChannelCorrelation(teacher="a", student="b", grid=3, projector=None)
    again = deserialize(serialize(loss))
    assert (again.name, again.grid, again.projector) == ("inter_channel_correlation_b", 3, None)


@pytest.mark.parametrize(
    ("settings", "teacher", "student", "message"),
    [
        ({}, (None, 4), (None, 4), "before the pooling"),
        ({}, (None, 4, 4, 3), (None, 4, 3), "cannot compare the correlations"),
        ({}, (None, 4, 4, None), (None, 4, 4, 3), "cannot compare the correlations"),
        ({"projector": None}, (None, 4, 4, 3), (None, 4, 4, 2), "the same channels if projector=None"),
        ({"grid": 2}, (None, 4, 4, 3), (None, 5, 4, 3), "2 x 2 equal cells.*multiples of 2"),
        ({"grid": 2}, (None, None, None, 3), (None, 4, 4, 3), "known and multiples"),
        ({"grid": 2}, (None, 4, 3), (None, 4, 3), "2 x 2 equal cells"),
    ],
)
def test_incompatible_shapes_are_refused(settings, teacher, student, message):
    shaped = [types.SimpleNamespace(shape=shape) for shape in (teacher, student)]
    with pytest.raises(ConfigurationError, match=message):
        InterChannelCorrelation(**settings).validate_outputs(*shaped)
    with pytest.raises(ConfigurationError, match=message):
        InterChannelCorrelation(**settings).build(teacher, student)


@pytest.mark.parametrize("settings", [{"grid": 0}, {"grid": 1.5}, {"grid": True}, {"projector": "resize"}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        InterChannelCorrelation(**settings)


def test_any_batch_and_map_size_in_one_graph():
    loss = InterChannelCorrelation(projector=None)
    shapes = [tf.TensorSpec((None, None, None, 3))] * 2
    compiled = tf.function(lambda t, s: loss(t, s, context=Context()), input_signature=shapes)
    for batch, side in ((1, 2), (3, 4)):
        teacher, student = (x.astype("float32") for x in pair((batch, side, side, 3), (batch, 2, side, 3)))
        assert float(compiled(teacher, student)) == pytest.approx(expected(teacher, student).mean(), rel=1e-4)
