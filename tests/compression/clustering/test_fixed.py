"""The clusters of a clustered kernel are kept; an ordinary kernel is never taken for one."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kd.compression import Clustering, Pruning, strip
from keras_kd.compression.clustering.fixed import FixedClusters, cluster_axes, num_clusters
from keras_kd.compression.preserving import preserved

RNG = np.random.default_rng(0)


def drawn(values, shape):
    return np.array(values, "float32")[RNG.integers(len(values), size=shape)]


@pytest.mark.parametrize(
    "value, axes, clusters",
    [
        (drawn([-0.5, 0.1, 0.7, 0.8], (10, 10)), (), 4),
        (drawn([-1.0, 0.0, 1.0], (3, 3, 4, 4)), (), 3),
        (drawn(np.arange(-127, 128) / 100, (64, 64)), (), 255),
        (np.stack([drawn(RNG.normal(size=16), (3, 3, 64)) for _ in range(32)], -1), (3,), 16),
        (np.stack([drawn(RNG.normal(size=16), (3, 3, 64)) for _ in range(32)], 2), (2,), 16),
        (np.stack([drawn(RNG.normal(size=16), 512) for _ in range(400)], -1).reshape(512, 20, 20), (1, 2), 16),
    ],
    ids=["four", "ternary", "int8", "channels", "transposed", "heads"],
)
def test_clustered(value, axes, clusters):
    assert cluster_axes(value) == axes and num_clusters(value) == clusters


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 3, 8, 1), (3, 3, 1, 8), (512, 10), (784, 300), (5, 5, 20, 50)])
def test_ordinary_kernels_are_not(shape, dtype):
    for value in (RNG.normal(0, 0.05, shape), RNG.uniform(-0.1, 0.1, shape), np.zeros(shape), np.ones(shape)):
        value = value.astype(dtype).astype("float32")
        assert cluster_axes(value) is None
        assert cluster_axes(np.where(RNG.random(shape) < 0.99, 0, value)) is None
    assert cluster_axes(np.eye(64)) is None


def test_equal_weights_stay_equal_and_start_with_their_exact_values():
    value = drawn([-0.1, 0.3, 0.7], (6, 8))
    fixed = FixedClusters()
    fixed.build(value.shape)
    fixed.start(value)
    np.testing.assert_array_equal(ops.convert_to_numpy(fixed(ops.convert_to_tensor(value))), value)
    moved = ops.convert_to_numpy(fixed(ops.convert_to_tensor(value + RNG.normal(size=value.shape))))
    assert len(np.unique(moved)) == 3
    for cluster in np.unique(value):
        assert len(np.unique(moved[value == cluster])) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", keras.optimizers.AdamW(0.01, weight_decay=0.3)])
def test_trained_together(optimizer):
    kernel = drawn([-0.1, 0.0, 0.7], (8, 6))
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    model.layers[0].set_weights([kernel, np.zeros(6)])
    prune = Pruning(0.01, frequency=1000)
    again = prune.apply(model, verbose=False)
    assert [row.kept for row in prune.report(model).rows] == [f"{100 * (kernel == 0).mean():.0f}% zeros, 3 values", ""]
    x = RNG.normal(size=(16, 8)).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))
    again.compile(optimizer, loss="mse", jit_compile=False)
    for _ in range(3):
        again.train_on_batch(x, np.ones((16, 2), "float32"))
        found = ops.convert_to_numpy(strip(again).layers[0].kernel)
        for cluster in np.unique(kernel):
            assert len(np.unique(found[kernel == cluster])) == 1
        assert (found[kernel == 0] == 0).all() and (found[kernel != 0] != kernel[kernel != 0]).all()


def test_trained_with_the_mean_of_the_gradients():
    value = drawn([-0.1, 0.0, 0.7], (8, 6))
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, use_bias=False)])
    model.layers[0].set_weights([value])
    again = Pruning(0.01, frequency=1000).apply(model, verbose=False)
    x = RNG.normal(size=(16, 8)).astype("float32")
    again.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    again.train_on_batch(x, np.ones((16, 6), "float32"))
    gradient = x.T.astype("float64") @ (x @ value - 1.0) * 2 / (16 * 6)
    found = ops.convert_to_numpy(strip(again).layers[0].kernel)
    for cluster in set(np.unique(value)) - {0.0}:
        place = value == cluster
        np.testing.assert_allclose(found[place], cluster - gradient[place].mean(), rtol=1e-4, atol=1e-6)


def test_clusters_are_named_in_the_report():
    functions, kept = preserved(drawn([-0.1, 0.3, 0.7], (6, 8)), "kernel")
    assert [type(function) for function in functions] == [FixedClusters] and kept == ["3 values"]
    channels = np.stack([drawn(RNG.normal(size=4), 64) for _ in range(100)], -1)
    assert preserved(channels, "kernel")[1] == ["4 values in a channel"]
    assert preserved(RNG.normal(size=(20, 20)), "kernel") == ([], [])


def test_clustered_again_to_fewer():
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(20)])
    model.layers[0].kernel.assign(drawn(RNG.normal(size=16), (20, 20)))
    shared = Clustering(4).apply(model, verbose=False)
    shared.compile("adam", loss="mse", jit_compile=False)
    shared.train_on_batch(np.ones((2, 20)), np.zeros((2, 20)))
    assert len(np.unique(ops.convert_to_numpy(strip(shared).layers[0].kernel))) == 4
