"""Fake quantization against TensorFlow's operations, and against float64 NumPy from the definitions."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_kd.compression.quantization.fake_quant import (
    IntegerRange,
    fake_quantize,
    fake_quantize_channels,
    nudge,
    symmetric_range,
)
from keras_kd.compression.quantization.learned_steps import LearnedStepQuantizer, LearnedStepWeight
from keras_kd.compression.quantization.weights import FakeQuantizedWeight, channel_axes

RNG = np.random.default_rng(0)
tf = pytest.importorskip("tensorflow")


def values_and_gradients(function, *inputs):
    """What a function of Keras tensors returns, and the gradient of a weighted sum of it, on the current backend."""
    weights = np.random.default_rng(1).normal(size=np.shape(inputs[0])).astype("float32")
    if keras.backend.backend() == "jax":
        import jax

        gradients = jax.grad(lambda values: ops.sum(function(*values) * weights))(tuple(map(ops.array, inputs)))
    else:
        tensors = [tf.constant(value) for value in inputs]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total = tf.reduce_sum(function(*tensors) * weights)
        gradients = tape.gradient(total, tensors)
    return np.asarray(function(*map(ops.array, inputs))), [np.asarray(value) for value in gradients], weights


@pytest.mark.parametrize("bits, narrow", [(8, False), (8, True), (4, True), (16, True)])
@pytest.mark.parametrize("minimum, maximum", [(-1.0, 1.0), (-0.3, 2.1), (0.0, 6.0), (-3.0, 0.0)])
def test_a_tensor_is_rounded_as_by_tensorflow(minimum, maximum, bits, narrow):
    x = np.append(RNG.normal(size=500) * 2, [0.0, minimum, maximum, 100.0, -100.0]).astype("float32")
    ours, (gradient,), weights = values_and_gradients(
        lambda x: fake_quantize(x, minimum, maximum, bits=bits, narrow=narrow), x
    )
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        theirs = tf.quantization.fake_quant_with_min_max_vars(tensor, minimum, maximum, bits, narrow)
        total = tf.reduce_sum(theirs * weights)
    step = (maximum - minimum) / (2**bits - 2)  # in float32, a value in the middle of two may go either way in 16 bits
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 if bits < 16 else 1.01 * step)
    np.testing.assert_array_equal(gradient, tape.gradient(total, tensor))
    assert ours[500] == 0.0


@pytest.mark.parametrize("axes", [(3,), (2,), (2, 3)])
def test_channels_are_rounded_as_by_tensorflow(axes):
    x = RNG.normal(size=(3, 3, 4, 5)).astype("float32")
    low, high = symmetric_range(x, axes)
    ours, (gradient,), weights = values_and_gradients(lambda x: fake_quantize_channels(x, high, axes=axes), x)
    order = [axis for axis in range(4) if axis not in axes] + list(axes)
    back = np.argsort(order)
    rows = tf.constant(np.transpose(x, order).reshape(-1, math.prod(x.shape[axis] for axis in axes)))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        theirs = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            rows, np.asarray(low), np.asarray(high), narrow_range=True
        )
        total = tf.reduce_sum(theirs * np.transpose(weights, order).reshape(rows.shape))
    shape = [x.shape[axis] for axis in order]
    np.testing.assert_allclose(ours, np.transpose(np.reshape(theirs, shape), back), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(gradient, np.transpose(np.reshape(tape.gradient(total, rows), shape), back))


@pytest.mark.parametrize("bits, narrow", [(8, False), (8, True), (16, True)])
def test_a_nudged_range_contains_zero(bits, narrow):
    low, high = -RNG.random(20).astype("float32"), RNG.random(20).astype("float32")
    found = IntegerRange(low, high, bits, narrow)
    minimum, maximum, scale = (np.asarray(value, "float64") for value in nudge(low, high, bits, narrow))
    steps = 2**bits - 1 - narrow
    np.testing.assert_allclose(scale, (high.astype("float64") - low) / steps, rtol=1e-6)
    np.testing.assert_allclose(maximum - minimum, high.astype("float64") - low, rtol=1e-5)
    np.testing.assert_allclose(minimum / scale, np.round(minimum / scale), atol=1e-2 if bits > 8 else 1e-4)
    smallest = -(2 ** (bits - 1)) + narrow
    np.testing.assert_allclose((smallest - found.zero_point) * scale, minimum, rtol=1e-4, atol=1e-6)
    assert found.zero_point.min() >= smallest and found.zero_point.max() <= 2 ** (bits - 1) - 1


def test_a_symmetric_range_has_zero_at_zero():
    found = IntegerRange(np.float32(-0.7), np.float32(0.7), 8, narrow=True)
    assert found.zero_point == 0 and found.scale == pytest.approx(0.7 / 127)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_weight_is_a_multiple_of_its_scale(bits):
    weight = RNG.normal(size=(3, 3, 4, 8)).astype("float32")
    weight[..., 2] = 0.0
    weight[0, 0] = 0.0
    function = FakeQuantizedWeight(bits=bits, axes=(3,))
    rounded = np.asarray(function(ops.array(weight)))
    scale = np.abs(weight.astype("float64")).max((0, 1, 2)) / (2 ** (bits - 1) - 1)
    expected = np.round(weight / np.where(scale, scale, 1)) * scale
    np.testing.assert_allclose(rounded, expected, atol=1e-6)
    assert (rounded[weight == 0] == 0).all()
    assert len(np.unique(rounded[..., 0])) <= 2**bits - 1
    np.testing.assert_allclose(function.range(weight).scale[0], scale[0], rtol=1e-6)
    np.testing.assert_allclose(function(ops.array(rounded)), rounded, rtol=1e-5)  # it is on its own grid


def test_equal_weights_stay_equal():
    weight = RNG.choice(RNG.normal(size=16), size=(32, 16)).astype("float32")
    assert len(np.unique(np.asarray(FakeQuantizedWeight()(ops.array(weight))))) <= 16


@pytest.mark.parametrize("layer, name, shape, expected", [
    (keras.layers.Conv2D(2, 3), "kernel", (None, 8, 8, 3), (3,)),
    (keras.layers.Conv1D(2, 3), "kernel", (None, 8, 3), (2,)),
    (keras.layers.Conv2DTranspose(2, 3), "kernel", (None, 8, 8, 3), (2,)),
    (keras.layers.DepthwiseConv2D(3), "kernel", (None, 8, 8, 3), (2, 3)),
    (keras.layers.SeparableConv2D(2, 3), "depthwise_kernel", (None, 8, 8, 3), (2, 3)),
    (keras.layers.SeparableConv2D(2, 3), "pointwise_kernel", (None, 8, 8, 3), (3,)),
    (keras.layers.Dense(2), "kernel", (None, 3), ()),
    (keras.layers.TimeDistributed(keras.layers.Conv1D(2, 3)), "layer/kernel", (None, 4, 8, 3), (2,)),
])  # fmt: skip
def test_which_axes_are_channels(layer, name, shape, expected):
    layer.build(shape)
    assert channel_axes(layer, name) == expected


def learned_gradient(x, step, smallest, largest):
    """Equation 3 of the paper, in float64."""
    v = x.astype("float64") / step
    return np.where(v <= smallest, smallest, np.where(v >= largest, largest, np.round(v) - v))


@pytest.mark.parametrize("bits", [8, 4])
def test_the_step_of_a_weight_is_learned_by_its_gradient(bits):
    weight = RNG.normal(size=(3, 3, 4, 5)).astype("float32")
    function = LearnedStepWeight(bits=bits, axes=(3,))
    function.build(weight.shape)
    function.start(weight)
    largest = 2 ** (bits - 1) - 1
    start = 2 * np.abs(weight.astype("float64")).mean((0, 1, 2)) / math.sqrt(largest)
    np.testing.assert_allclose(function.step_size, start, rtol=1e-6)
    step = np.asarray(function.step_size)

    def run(weight, step):
        with keras.StatelessScope([(function.step_size, step)]):
            return function(weight, training=True)

    rounded, (to_weight, to_step), upstream = values_and_gradients(run, weight, step)
    expected = np.clip(np.round(weight / step.astype("float64")), -largest, largest) * step
    np.testing.assert_allclose(rounded, expected, rtol=1e-5, atol=1e-7)
    slope = (learned_gradient(weight, step, -largest, largest) * upstream).sum((0, 1, 2))
    np.testing.assert_allclose(to_step, slope / math.sqrt(36 * largest), rtol=1e-3, atol=1e-4)
    inside = np.abs(weight) <= step * largest * (1 + 1e-6)
    np.testing.assert_array_equal(to_weight, np.where(inside, upstream, 0))
    np.testing.assert_array_equal(rounded, function(ops.array(weight), training=False))


def test_the_range_of_an_activation_is_learned_by_its_gradient():
    x = RNG.normal(size=(16, 6)).astype("float32")
    quantizer = LearnedStepQuantizer()
    quantizer(ops.array(x * 0.5), training=True)
    found = quantizer.range()

    def run(x, stretch):
        with keras.StatelessScope([(quantizer.stretch, stretch)]):
            return quantizer(x, training=False)

    rounded, (_, to_stretch), upstream = values_and_gradients(run, x, np.float32(1.0))
    np.testing.assert_allclose(rounded, fake_quantize(x, found.minimum, found.maximum), atol=1e-7)
    step, zero = float(found.scale), int(found.zero_point)
    slope = (learned_gradient(x, step, -128 - zero, 127 - zero) * upstream).sum() * step / math.sqrt(6 * 255)
    assert to_stretch == pytest.approx(slope, rel=1e-3)
