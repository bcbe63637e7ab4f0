"""The ranges of activations: how they follow, when they stop, and what is rounded."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kd.compression.quantization import ActivationQuantizer, LearnedStepQuantizer, exporting
from keras_kd.compression.quantization.fake_quant import fake_quantize
from keras_kd.errors import ConfigurationError

RNG = np.random.default_rng(0)


def feed(quantizer, *batches):
    return [np.asarray(quantizer(ops.array(batch, "float32"), training=True)) for batch in batches]


def test_the_range_is_a_moving_average():
    batches = [RNG.normal(size=(4, 3)) * size for size in (1, 3, 2, 5, 1, 1, 2)]
    quantizer = ActivationQuantizer(momentum=0.75)
    feed(quantizer, *batches)
    low = high = 0.0
    for number, batch in enumerate(batches):
        rate = max(0.25, 1 / (number + 1))
        low, high = low + rate * (min(batch.min(), 0) - low), high + rate * (max(batch.max(), 0) - high)
    assert quantizer.range().minimum == pytest.approx(low, rel=1e-5)
    assert quantizer.range().maximum == pytest.approx(high, rel=1e-5)


def test_nothing_is_rounded_before_the_first_batch_and_in_the_warm_up():
    x = RNG.normal(size=(4, 3)).astype("float32")
    quantizer = ActivationQuantizer(warmup=2)
    np.testing.assert_array_equal(quantizer(x), x)
    np.testing.assert_array_equal(feed(quantizer, x)[0], x)
    assert not quantizer.is_ready()
    (rounded,) = feed(quantizer, x)
    assert quantizer.is_ready()
    np.testing.assert_allclose(rounded, fake_quantize(x, x.min(), x.max()), atol=1e-6)


def test_a_frozen_range_stays():
    quantizer = ActivationQuantizer(freeze=2, calls=2)
    feed(quantizer, *[np.array([-1.0, 2.0])] * 4)
    feed(quantizer, np.array([-100.0, 100.0]))
    assert (quantizer.range().minimum, quantizer.range().maximum) == (-1, 2)


def test_the_range_of_another_tensor_is_used_without_following():
    quantizer = ActivationQuantizer()
    feed(quantizer, np.array([0.0, 2.55]))
    outputs = np.asarray(quantizer(ops.array([0.126, 9.0]), training=True, observe=False))
    np.testing.assert_allclose(outputs, [0.13, 2.55], atol=1e-6)
    assert int(quantizer.count) == 1


def test_16_bits_are_symmetric():
    quantizer = ActivationQuantizer(bits=16)
    feed(quantizer, np.array([-1.0, 3.0]))
    found = quantizer.range()
    assert (found.minimum, found.maximum, int(found.zero_point), found.narrow) == (-3, 3, 0, True)
    assert found.scale == pytest.approx(3 / 32767)


@pytest.mark.parametrize("batch", [[np.nan, 1.0], [np.inf, -1.0]])
def test_a_batch_that_is_not_finite_leaves_the_range_alone(batch):
    quantizer = ActivationQuantizer()
    feed(quantizer, np.array([-1.0, 1.0]), np.array(batch))
    assert (quantizer.range().minimum, quantizer.range().maximum) == (-1, 1)


def test_a_tensor_of_zeros_stays_zero():
    quantizer = ActivationQuantizer()
    assert not np.any(feed(quantizer, np.zeros((4,)), np.zeros((4,))))
    assert quantizer.range().scale == pytest.approx(1 / 255)


def test_a_fixed_range_does_not_follow():
    quantizer = ActivationQuantizer(fixed=(0.0, 255 / 256))
    (outputs,) = feed(quantizer, np.array([0.5, 1.0, 3.0]))
    np.testing.assert_array_equal(outputs, [0.5, 255 / 256, 255 / 256])
    assert quantizer.range().scale == 1 / 256 and int(quantizer.range().zero_point) == -128


def test_a_learned_range_follows_only_at_first():
    quantizer = LearnedStepQuantizer()
    feed(quantizer, np.array([-1.0, 2.0]), np.array([-9.0, 9.0]))
    assert (quantizer.range().minimum, quantizer.range().maximum) == (-1, 2)
    quantizer.stretch.assign(2.0)
    assert (quantizer.range().minimum, quantizer.range().maximum) == (-2, 4)


@pytest.mark.parametrize("kind", [ActivationQuantizer, LearnedStepQuantizer])
def test_half_precision_passes_through(kind):
    quantizer = kind()
    x = ops.cast(RNG.normal(size=(4, 3)), "float16")
    outputs = quantizer(x, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    np.testing.assert_allclose(outputs, x, atol=0.02)


def test_a_model_without_ranges_is_not_exported():
    x = keras.Input((3,))
    model = keras.Model(x, ActivationQuantizer(name="rounds")(x))
    with pytest.raises(ConfigurationError, match="rounds"), exporting(model):
        pass
    feed(model.get_layer("rounds"), np.ones((1, 3)))
    with exporting(model):
        np.testing.assert_allclose(model(np.full((1, 3), 0.4, "float32")), 0.4, atol=1e-6)
