"""From the student's shape to the teacher's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.features import Projector, plan_projection
from keras_kd.features.projectors import resize_map
from keras_kd.serialization import deserialize, serialize

NORM = " + batch normalization"
PLANS = [
    ((8, 8, 16), (8, 8, 16), "auto", "none needed"),
    ((7,), (7,), "auto", "none needed"),
    ((9, 7), (9, 7), "auto", "none needed"),
    ((8, 8, 16), (8, 8, 4), "auto", "1x1 convolution to 16 channels" + NORM),
    ((9, 7), (9, 4), "auto", "linear to 7 channels" + NORM),
    ((7,), (4,), "auto", "linear to 7 channels" + NORM),
    ((4, 4, 7), (8, 8, 7), "auto", "resize to 4x4"),
    ((8, 4, 7), (2, 2, 7), "resize", "resize to 8x4"),
    ((4, 4, 7), (8, 8, 5), "auto", "resize to 4x4, 1x1 convolution to 7 channels" + NORM),
    ((16, 7), (4, 4, 7), "auto", "map to tokens"),
    ((16, 7), (4, 4, 5), "auto", "map to tokens, linear to 7 channels" + NORM),
    ((4, 4, 7), (16, 7), "auto", "tokens to map"),
    ((4, 4, 7), (16, 5), "auto", "tokens to map, 1x1 convolution to 7 channels" + NORM),
    ((7,), (4, 4, 7), "auto", "pool"),
    ((7,), (9, 7), "auto", "pool"),
    ((7,), (None, 5), "auto", "pool, linear to 7 channels" + NORM),
    ((7,), (None, None, 5), "auto", "pool, linear to 7 channels" + NORM),
    ((4, 4, 7), (4, 4, 7), "conv", "1x1 convolution to 7 channels" + NORM),
    ((4, 4, 7), (4, 4, 7), "linear", "linear to 7 channels" + NORM),
    ((9, 7), (9, 7), "conv", "linear to 7 channels" + NORM),
    ((4, 4, 7), (4, 4, 7), None, "none needed"),
    ((4, 4, 7), (4, 4, 7), "resize", "none needed"),
    ((None, None, 7), (None, None, 5), "auto", "1x1 convolution to 7 channels" + NORM),
    ((None, 7), (9, 5), "auto", "linear to 7 channels" + NORM),
]


def batched(*shapes):
    return [(None, *shape) for shape in shapes]


@pytest.mark.parametrize(("teacher", "student", "kind", "words"), PLANS)
def test_takes_what_the_shapes_ask_for(teacher, student, kind, words):
    plan = plan_projection(*batched(teacher, student), kind)
    assert str(plan) == words
    assert plan.is_identity == (words == "none needed")


@pytest.mark.parametrize(
    ("teacher", "student", "kind", "message"),
    [
        ((4, 4, 7), (8, 8, 7), None, "projector=None.*equal shapes.*projector='auto', which learns"),
        ((4, 4, 7), (4, 4, 5), "resize", "projector='resize'.*equal channels.*'auto'"),
        ((9, 7), (8, 7), "auto", r"cannot be converted to the same shape.*\(None, 9, 7\), student \(None, 8, 7\)"),
        ((9, 7), (7,), "auto", "cannot be converted to the same shape"),
        ((9, 7), (4, 4, 7), "auto", "a map with as many positions as a sequence has tokens.*match_layers"),
        ((None, 7), (4, 4, 7), "auto", "cannot be converted to the same shape"),
        ((2, 2, 2, 7), (2, 2, 2, 7), "auto", "cannot be converted to the same shape"),
        ((None, None, 7), (4, 4, 7), "auto", r"teacher \(None, None, None, 7\).*known sizes"),
        ((4, 4, None), (4, 4, 7), "auto", "known sizes"),
        ((4, 4, 7), (4, 4, 7), "dense", "'projector'.*'dense'.*'auto', 'conv', 'linear', 'resize', None"),
    ],
)
def test_incompatible_shapes_are_refused(teacher, student, kind, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_projection(*batched(teacher, student), kind)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def normalized(x, norm):
    """Batch normalization in inference, in float64."""
    gamma, beta, mean, variance = (np.asarray(weight, "float64") for weight in norm.weights)
    return (x - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta


def with_statistics(projector, x):
    """The projector after a few batches and with other scales, so that its normalization does something."""
    for _ in range(3):
        projector(x, training=True)
    norm = projector.learned[-1]
    norm.gamma.assign(1.0 + np.arange(norm.gamma.shape[0]) / 10)
    norm.beta.assign(np.arange(norm.gamma.shape[0]) / 5)
    assert np.abs(norm.moving_mean).max() > 1e-3
    return norm


def test_a_1x1_convolution_and_batch_normalization_as_numpy_says():
    x = random(5, 4, 4, 3)
    projector = Projector((None, 4, 4, 6))
    norm = with_statistics(projector, x)
    (kernel,) = projector.learned[0].weights  # no bias beside the normalization
    expected = normalized(x.astype("float64") @ np.asarray(kernel, "float64")[0, 0], norm)
    np.testing.assert_allclose(projector(x, training=False), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("teacher", "student", "arrange"),
    [
        ((4, 4, 6), (8, 4, 3), lambda x: x.reshape(5, 4, 2, 4, 3).mean(2)),
        ((16, 6), (4, 4, 3), lambda x: x.reshape(5, 16, 3)),
        ((4, 4, 6), (16, 3), lambda x: x.reshape(5, 4, 4, 3)),
        ((6,), (4, 4, 3), lambda x: x.mean((1, 2))),
        ((9, 6), (9, 3), lambda x: x),
    ],
)
def test_other_layouts_as_numpy_says(teacher, student, arrange):
    x = random(5, *student)
    projector = Projector((None, *teacher))
    norm = with_statistics(projector, x)
    kernel = np.asarray(projector.learned[0].kernel, "float64").reshape(3, 6)
    expected = normalized(arrange(x.astype("float64")) @ kernel, norm)
    np.testing.assert_allclose(projector(x, training=False), expected, atol=1e-5)
    assert projector.compute_output_shape(x.shape) == (None, *teacher)


def test_training_uses_the_batch_and_inference_what_was_gathered():
    projector, x = Projector((None, 6)), random(50, 3) + 2
    trained = np.asarray(projector(x, training=True))
    np.testing.assert_allclose(trained.mean(0), np.zeros(6), atol=1e-5)
    assert np.abs(np.mean(projector(x, training=False), 0)).max() > 0.1


def test_nothing_is_learned_where_nothing_is_needed():
    projector, x = Projector((None, 4, 4, 3)), keras.ops.convert_to_tensor(random(2, 4, 4, 3))
    assert projector(x) is x
    assert projector.weights == []


@pytest.mark.parametrize(("size", "windows"), [((4, 2), (2, 4)), ((1, 1), (8, 8)), ((8, 4), (1, 2))])
def test_larger_maps_are_average_pooled(size, windows):
    x = random(2, 8, 8, 3)
    expected = x.astype("float64").reshape(2, size[0], windows[0], size[1], windows[1], 3).mean((2, 4))
    np.testing.assert_allclose(resize_map(x, size), expected, atol=1e-6)


def test_other_sizes_are_interpolated():
    ramp = np.tile(np.arange(6, dtype="float32")[None, :, None, None], (2, 1, 6, 1))
    assert resize_map(ramp, (6, 6)) is ramp
    for size in ((9, 9), (4, 4), (12, 6)):
        resized = np.asarray(resize_map(ramp, size))
        assert resized.shape == (2, *size, 1)
        assert resized.mean() == pytest.approx(2.5, abs=1e-5)  # a ramp stays symmetric about its middle
        assert np.all(np.diff(resized[0, :, 0, 0]) >= 0)


def test_unknown_sizes_in_a_graph_are_refused_and_eager_sizes_work():
    projector = Projector((None, 4, 4, 2))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    def of_any_size(x):
        return projector(x)

    with pytest.raises(ConfigurationError, match=r"unknown size cannot be resized.*None, 3\).*\(4, 4\)"):
        of_any_size(random(1, 8, 8, 3))
    later = Projector((None, 4, 4, 2))
    later.build((None, None, None, 3))
    assert later(random(1, 8, 8, 3)).shape == (1, 4, 4, 2)


def test_works_in_float32_under_a_half_precision_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        projector = Projector((None, 2, 2, 6))
        value = projector(random(2, 4, 4, 3).astype("float16"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert value.dtype == "float32"
    assert {weight.dtype for weight in projector.weights} == {"float32"}
    assert {layer.compute_dtype for layer in (projector, *projector.learned)} == {"float32"}


def test_config_round_trip():
    projector = Projector((None, 4, 4, 6), "linear", name="regressor")
    projector.build((None, 8, 8, 3))
    again = deserialize(serialize(projector))
    assert again.get_config() == projector.get_config()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in projector.weights]
    assert again.plan == projector.plan


def test_weights_are_restored_on_load(tmp_path):
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, Projector((None, 4, 4, 6))(x))
    data = random(2, 8, 8, 3)
    with_statistics(model.layers[-1], data)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], Projector)
    np.testing.assert_array_equal(loaded(data), model(data))


def test_normalizes_as_the_published_code_does():
    """PyTorch's epsilon of 1e-5 and, for its momentum of 0.1, 0.9: at features of size 0.03 Keras' own 1e-3 shows."""
    x, projector = 0.03 * random(64, 3), Projector((None, 6))
    projected = np.asarray(projector(x, training=True), "float64")
    plain = x.astype("float64") @ np.asarray(projector.learned[0].kernel, "float64")
    expected = (plain - plain.mean(0)) / np.sqrt(plain.var(0) + 1e-5)
    np.testing.assert_allclose(projected, expected, atol=1e-4)
    np.testing.assert_allclose(projector.learned[1].moving_mean, 0.1 * plain.mean(0), atol=1e-6)


def test_starts_as_the_published_layers_do():
    """PyTorch's default for linear layers and convolutions: uniform within 1 / sqrt(inputs)."""
    projector = Projector((None, 4, 4, 300))
    projector.build((None, 4, 4, 100))
    kernel = np.asarray(projector.learned[0].kernel)
    assert 0.09 < np.abs(kernel).max() <= 0.1
    assert kernel.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)


def test_may_end_in_a_relu():
    projector = Projector((None, 6), activation="relu")
    projected = np.asarray(projector(random(50, 3), training=True))
    assert projected.min() == 0.0 and projected.max() > 0.5
    assert deserialize(serialize(projector)).activation == "relu"
    with pytest.raises(ConfigurationError, match="requires a learned projection.*'conv' or 'linear'"):
        Projector((None, 3), activation="relu")(random(5, 3))


@pytest.mark.parametrize(
    ("teacher", "student"), [((6,), (3,)), ((4, 6), (4, 3)), ((6,), (2, 2, 3)), ((2, 2, 6), (4, 3))]
)
def test_what_does_not_count_is_not_in_the_statistics(teacher, student):
    x = random(8, *student)
    included = (np.arange(8) % 4 > 0).reshape(8, *[1] * len(student))
    kept = x[included.ravel()]
    with_all, alone = Projector((None, *teacher)), Projector((None, *teacher))
    for projector in (with_all, alone):
        projector.build((None, *student))
    alone.set_weights(with_all.get_weights())
    projected = np.asarray(with_all(np.where(included, x, 100.0), included=included, training=True))[included.ravel()]
    np.testing.assert_allclose(projected, alone(kept, training=True), atol=1e-4)
    for mine, theirs in zip(with_all.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_masked_map_is_pooled_over_what_is_left_and_cannot_be_resized():
    x, included = random(2, 2, 2, 3), np.array([[[1, 0], [1, 1]], [[0, 0], [1, 0]]], bool)[..., None]
    expected = np.stack([x[i][included[i, ..., 0]].mean(0) for i in range(2)])
    np.testing.assert_allclose(Projector((None, 3))(x, included=included), expected, atol=1e-6)
    resized = Projector((None, 4, 4, 3))
    resized.build((None, 2, 2, 3))
    with pytest.raises(ConfigurationError, match="mask cannot be resized"):
        resized.arranged(included)
