"""Feature overhaul against float64 NumPy written from the formulas, and SciPy's truncated normal."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_kd.errors import ConfigurationError
from keras_kd.losses.base import Context
from keras_kd.losses.overhaul import (
    FeatureOverhaul,
    feature_overhaul,
    margins_from_batch_norm,
    margins_from_features,
)
from keras_kd.serialization import deserialize, serialize

MARGIN = [-0.4, -0.9, -0.1]


def reference(margin):
    """The paper's definition: a margin ReLU on the teacher, 0 where the student is below a non-positive target."""

    def of(teacher, student):
        values = np.zeros(len(teacher))
        for index in np.ndindex(teacher.shape):
            t = teacher[index] if teacher[index] >= margin[index[-1]] else margin[index[-1]]
            if not student[index] <= t <= 0:
                values[index[0]] += (t - student[index]) ** 2
        return values

    return of


def negative_means(teacher):
    channels = teacher.reshape(-1, teacher.shape[-1]).T
    return [channel[channel < 0].mean() if (channel < 0).any() else 0.0 for channel in channels]


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (4, 3, 2, 3), (2, 3)])
def test_matches_the_formula(assert_matches_the_formula, shape):
    teacher, student = np.random.default_rng(0).normal(size=(2, *shape))
    assert_matches_the_formula(lambda t, s: feature_overhaul(t, s, MARGIN), reference(MARGIN), teacher, student)


@pytest.mark.parametrize("batch", [1, 4])
def test_margin_defaults_to_that_of_the_batch(assert_matches_the_formula, batch):
    teacher, student = np.random.default_rng(0).normal(size=(2, batch, 3, 2, 3))
    teacher[..., 1] = np.abs(teacher[..., 1])
    np.testing.assert_allclose(margins_from_features(teacher), negative_means(teacher))
    assert_matches_the_formula(feature_overhaul, lambda t, s: reference(negative_means(t))(t, s), teacher, student)


def test_by_hand():
    teacher = np.array([[[-2.0, -2.0, -0.25, -0.25, 1.0, 1.0]]])
    student = np.array([[[-3.0, 0.0, -0.5, 0.25, -1.0, 3.0]]])
    values = [feature_overhaul(teacher[..., [i]], student[..., [i]], [-0.5]).numpy()[0] for i in range(6)]
    assert values == [0, 0.25, 0, 0.25, 4, 4]


def test_margins_are_the_means_of_a_truncated_normal():
    gamma, beta = np.array([1.0, -0.5, 2.0, 0.3]), np.array([0.0, 1.0, -3.0, 0.9])
    s = np.abs(gamma)
    expected = stats.truncnorm.mean(-np.inf, -beta / s, loc=beta, scale=s)
    np.testing.assert_allclose(margins_from_batch_norm(gamma, beta), expected, rtol=1e-9)


def test_margins_of_channels_that_are_rarely_negative():
    assert margins_from_batch_norm([1.0, -2.0], [3.1, 50.0]) == [-3.0, -6.0]
    assert margins_from_batch_norm([1.0], [3.09])[0] > -1.0  # Phi(-3.09) is just above 0.001
    assert margins_from_batch_norm([0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]) == [-1.0, 0.0, 0.0]


def test_margins_of_a_keras_layer():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    margins = margins_from_batch_norm(layer.gamma, layer.beta)
    np.testing.assert_allclose(margins, -np.sqrt(2 / np.pi) * np.ones(2))
    assert FeatureOverhaul(margins=[margins]).margins == [margins]
    with pytest.raises(ConfigurationError, match="2 and 1 channels"):
        margins_from_batch_norm([1.0, 1.0], [0.0])


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
@pytest.mark.parametrize("margin", [None, MARGIN])
def test_is_finite_at_zeros_and_extremes(size, margin):
    teacher = np.sign(np.random.default_rng(0).normal(size=(2, 2, 2, 3))).astype("float32") * size
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = feature_overhaul(teacher, student, margin)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()
    np.testing.assert_array_equal(feature_overhaul(teacher, teacher, margin), [0, 0])


def test_absent_rows_do_not_change_the_margins():
    teacher, student = np.random.default_rng(0).normal(size=(2, 4, 2, 2, 3))
    kept = [0, 1, 3]
    present = np.array([True, True, False, True])
    values = feature_overhaul(teacher, student, present=present)
    np.testing.assert_allclose(np.asarray(values)[kept], feature_overhaul(teacher[kept], student[kept]))
    loss = FeatureOverhaul(projector="auto")
    weighted = loss([teacher], [student], sample_weight=present.astype("float32")) * 4
    assert float(weighted) == pytest.approx(float(loss([teacher[kept]], [student[kept]])) * 3, rel=1e-5)


def test_each_earlier_layer_has_half_the_weight():
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 4, 2, 2, 3))
    loss = FeatureOverhaul(margins=[MARGIN, None, MARGIN], projector=None)
    parts = [
        reference(margin)(t, s).mean()
        for margin, t, s in zip([MARGIN, negative_means(teacher[1]), MARGIN], teacher, student, strict=True)
    ]
    assert float(loss(list(teacher), list(student))) == pytest.approx(parts[0] / 4 + parts[1] / 2 + parts[2], rel=1e-5)
    assert not loss.weights
    same = list(teacher.astype("float32"))
    assert float(loss(same, same)) == 0.0


def test_the_connector_is_trained_and_updates_its_statistics():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(3, 2, 2, 2)), rng.normal(size=(3, 4, 4, 3))
    loss = FeatureOverhaul()
    with tf.GradientTape() as tape:
        value = loss([teacher], [student])
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(1, 1, 3, 2), (2,), (2,)]
    slopes = tape.gradient(value, [weight.value for weight in loss.trainable_weights])
    assert all(np.abs(slope).max() > 0 for slope in slopes)
    before = [weight.numpy() for weight in loss.non_trainable_weights]
    loss([teacher], [student], context=Context(training=False))
    for old, new in zip(before, loss.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_conv_projects_equal_shapes_and_auto_does_not():
    for projector, count in (("conv", 3), ("auto", 0), (None, 0)):
        loss = FeatureOverhaul(projector=projector)
        loss.build([(None, 2, 2, 3)], [(None, 2, 2, 3)])
        assert len(loss.trainable_weights) == count


def test_config_round_trip():
    loss = FeatureOverhaul(
        teacher=["a", "b"], student=["c", "d"], margins=[np.float32([-0.5, 0]), None], projector=None, name="of"
    )
    again = deserialize(serialize(loss))
    assert (again.margins, again.projector, again.name) == ([[-0.5, 0.0], None], None, "of")
    assert serialize(again) == serialize(loss)


def test_runs_in_a_graph_with_an_unknown_batch():
    loss = FeatureOverhaul(projector="auto")
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2)).astype("float32")
    graph = tf.function(
        lambda t, s, w: loss([t], [s], sample_weight=w),
        input_signature=[tf.TensorSpec((None, 2, 2, 2)), tf.TensorSpec((None, 2, 2, 2)), tf.TensorSpec((None,))],
    )
    weight = np.float32([1, 0, 1])
    assert float(graph(teacher, student, weight)) == pytest.approx(
        float(loss([teacher], [student], sample_weight=weight))
    )


def shaped(*shapes):
    return [keras.KerasTensor((None, *shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("settings", "teacher", "student", "message"),
    [
        ({}, [(4, 4, 2), (2, 2, 3)], [(4, 4, 2)], "2 of the teacher, 1 of the student"),
        ({"projector": None}, [(4, 4, 2)], [(4, 4, 3)], "projector=None does not convert.*'auto', which learns"),
        ({"margins": [[-1.0]]}, [(4, 4, 2)], [(4, 4, 2)], r"margins for \[1\] channels.*\[2\] channels"),
        ({"margins": [[-1.0]]}, [(4, 4, 1), (4, 4, 1)], [(4, 4, 1), (4, 4, 1)], "margins_from_batch_norm"),
    ],
)
def test_incompatible_shapes_are_refused(settings, teacher, student, message):
    with pytest.raises(ConfigurationError, match=message):
        FeatureOverhaul(**settings).validate_outputs(shaped(*teacher), shaped(*student))
    with pytest.raises(ConfigurationError, match=message):
        FeatureOverhaul(**settings).build([(None, *x) for x in teacher], [(None, *x) for x in student])


@pytest.mark.parametrize(
    ("margins", "message"), [([-1.0], "a list of one list"), ([[0.5]], "margins <= 0"), (["ab"], "a list of one list")]
)
def test_invalid_margins_are_refused(margins, message):
    with pytest.raises(ConfigurationError, match=message):
        FeatureOverhaul(margins=margins)
