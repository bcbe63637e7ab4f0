"""Channel-wise distillation against float64 NumPy written from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses.channel_wise import ChannelWiseKD, channel_wise_kd


def share(values, temperature):
    powers = np.exp((values - values.max()) / temperature)
    return powers / powers.sum()


def expected(teacher, student, temperature=4.0, keep=None):
    """Equation 3 of the paper, one channel at a time, over the positions to keep."""
    losses = np.zeros(len(teacher))
    channels = teacher.shape[-1]
    for example, channel in np.ndindex(len(teacher), channels):
        kept = np.ones(teacher.shape[1:-1], bool) if keep is None else keep[example]
        if kept.any():
            p, q = (share(x[example, ..., channel][kept], temperature) for x in (teacher, student))
            losses[example] += temperature**2 / channels * np.sum(p * np.log(p / q))
    return losses


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 5, 3), (3, 2, 3, 1)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_matches_the_formula(assert_matches_the_formula, shape, temperature):
    def function(teacher, student):
        return channel_wise_kd(teacher, student, temperature)

    assert_matches_the_formula(function, lambda t, s: expected(t, s, temperature), *pair(shape, shape))


def test_excluded_positions_equal_a_map_without_them(assert_matches_the_formula):
    keep = np.array([[[True, False], [True, True]], [[False, False], [False, True]], [[False, False], [False, False]]])

    def function(teacher, student):
        return channel_wise_kd(teacher, student, 2.0, included=keep[..., None])

    teacher, student = pair((3, 2, 2, 3), (3, 2, 2, 3))
    assert_matches_the_formula(function, lambda t, s: expected(t, s, 2.0, keep), teacher, student)
    assert expected(teacher, student, 2.0, keep)[2] == 0.0


def test_pixels_of_weight_0_have_no_influence():
    """Weights per pixel, as a segmentation task gives to pixels without a label."""
    teacher, student = (x.astype("float32") for x in pair((2, 4, 4, 3), (2, 4, 4, 3)))
    weight = (np.random.default_rng(1).random((2, 4, 4)) > 0.4).astype("float32")
    loss = ChannelWiseKD()
    value = float(loss(teacher, student, sample_weight=weight))
    kept = expected(teacher.astype("float64"), student.astype("float64"), keep=weight > 0)
    assert value == pytest.approx((kept * weight.mean((1, 2))).mean(), rel=1e-4)
    student[weight == 0] = 50.0
    teacher[weight == 0] = -50.0
    assert float(loss(teacher, student, sample_weight=weight)) == pytest.approx(value, rel=1e-5)


def test_the_level_of_a_channel_does_not_matter():
    teacher, student = pair((2, 3, 3, 2), (2, 3, 3, 2))
    moved = student + np.array([5.0, -7.0])
    np.testing.assert_allclose(channel_wise_kd(teacher, moved), channel_wise_kd(teacher, student))


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
@pytest.mark.parametrize("included", [None, np.zeros((2, 1, 1, 1), bool)])
def test_extremes_are_finite_and_not_negative(size, included):
    teacher = np.sign(pair((2, 3, 3, 2), (1,))[0]).astype("float32") * np.float32(size)
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = channel_wise_kd(teacher, student, 0.5, included)
    assert (value.numpy() >= 0).all() and np.isfinite(value).all()
    assert np.isfinite(tape.gradient(value, student)).all()


def test_other_channels_and_sizes_are_projected():
    teacher, student = (x.astype("float32") for x in pair((2, 4, 4, 3), (2, 8, 8, 5)))
    loss = ChannelWiseKD(temperature=1.0)
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(1, 1, 5, 3), (3,), (3,)]
    slopes = tape.gradient(value, [weight.value for weight in loss.trainable_weights])
    assert np.isfinite(float(value)) and np.abs(slopes[0]).max() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ChannelWiseKD(temperature=0.0), "temperature"),
        (lambda: ChannelWiseKD(temperature="4"), "temperature"),
        (
            lambda: ChannelWiseKD()(np.ones((2, 3), "float32"), np.ones((2, 3), "float32")),
            "compares positions.*pooling",
        ),
        (
            lambda: ChannelWiseKD(projector=None).validate_outputs(
                *(keras.KerasTensor((None, 4, 4, n)) for n in (3, 2))
            ),
            "projector=None",
        ),
    ],
)
def test_bad_use_is_refused(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
