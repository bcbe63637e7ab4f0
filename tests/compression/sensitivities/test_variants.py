"""Kernels pruned and rounded, against NumPy in float64."""

import zlib

import keras
import numpy as np
import pytest

from keras_kd.compression.selection import kernels
from keras_kd.compression.sensitivities.variants import Setting, as_matrix, compressed, from_matrix, num_bytes

layers = keras.layers
# A layer, the shape of its input, the axes of its kernel that are output channels.
KINDS = {
    "dense": (lambda: layers.Dense(6), (8,), (1,)),
    "conv": (lambda: layers.Conv2D(6, 3), (8, 8, 4), (3,)),
    "transposed": (lambda: layers.Conv2DTranspose(6, 3), (8, 8, 4), (2,)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), (2, 3)),
    "einsum": (lambda: layers.EinsumDense("abc,cde->adbe", (3, None, 5)), (7, 4), (1, 2)),
    "embedding": (lambda: layers.Embedding(9, 5), (4,), (1,)),
}


def expected(kernel, axes, setting):
    """Magnitude mask, then round(x / scale) * scale with scale = max |channel| / (2^(bits - 1) - 1)."""
    values = kernel.astype("float64")
    if setting.sparsity:
        order = np.argsort(-np.abs(values), axis=None, kind="stable")
        values.flat[order[round(values.size * (1 - setting.sparsity)) :]] = 0
    if setting.bits:
        others = tuple(axis for axis in range(values.ndim) if axis not in axes)
        scale = np.abs(values).max(axis=others, keepdims=True) / (2 ** (setting.bits - 1) - 1)
        scale = np.where(scale == 0, 1, scale)
        values = np.round(values / scale) * scale
    return values


@pytest.mark.parametrize("setting", [Setting(0.7), Setting(bits=8), Setting(bits=2), Setting(0.6, 4)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_is_pruned_and_rounded_by_channel(kind, setting):
    make, shape, axes = KINDS[kind]
    layer = make()
    layer.build((None, *shape))
    ((name, weight),) = kernels(layer).items()
    kernel = np.random.default_rng(0).normal(size=weight.shape).astype("float32")
    matrix = compressed(as_matrix(layer, name, keras.ops.convert_to_tensor(kernel)), setting)
    ours = keras.ops.convert_to_numpy(from_matrix(layer, name, matrix, kernel.shape))
    np.testing.assert_allclose(ours, expected(kernel, axes, setting), rtol=1e-5, atol=1e-6)


def test_the_size_is_that_of_the_integers_and_scales():
    matrix = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    assert num_bytes(matrix, Setting()) == len(zlib.compress(matrix.tobytes(), 6))
    scale = np.abs(matrix).max(axis=0) / 7
    integers = np.round(matrix.astype("float64") / scale).astype("int8")
    assert num_bytes(matrix, Setting(bits=4)) == len(zlib.compress(integers.tobytes(), 6)) + 4 * 8
    assert num_bytes(matrix, Setting(0.9, 4)) < num_bytes(matrix, Setting(0.5, 4)) < num_bytes(matrix, Setting(bits=4))
    assert num_bytes(np.zeros((64, 8), "float32"), Setting(0.5, 8)) < 60
