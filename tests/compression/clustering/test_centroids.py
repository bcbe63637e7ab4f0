"""Centroids against NumPy from the definitions, and against TFMOT."""

import os
import sys

import numpy as np
import pytest
from keras import ops

from keras_kd.compression.clustering import centroids, starts

RNG = np.random.default_rng(0)


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def normal(*shape):
    return RNG.normal(0, 0.2, shape).astype("float32")


def loss(weights, found):
    return float((np.abs(weights[:, None] - found[None]).min(1) ** 2).sum())


@pytest.mark.parametrize("clusters", [1, 2, 3, 5, 16, 17])
def test_the_nearest_of_each_group(clusters):
    weights, found = normal(3, 200), np.sort(normal(3, clusters), axis=1)
    expected = np.abs(weights[:, :, None].astype("float64") - found[:, None]).argmin(-1)
    np.testing.assert_array_equal(numpy(centroids.nearest(weights, found)), expected)


def test_halfway_the_smaller_one_and_far_outside_the_last_one():
    weights = np.array([[-np.inf, -1.0, 0.5, 1.5, 9.0, np.inf]], "float32")
    found = np.array([[0.0, 1.0, 2.0]], "float32")
    np.testing.assert_array_equal(numpy(centroids.nearest(weights, found)), [[0, 0, 0, 1, 2, 2]])


def test_centroids_in_any_order_and_of_equal_value():
    weights, found = normal(1, 50), np.array([[0.2, -0.1, 0.2, 0.0]], "float32")
    expected = found[0][np.abs(weights[0][:, None] - found[0]).argmin(1)]
    np.testing.assert_array_equal(numpy(centroids.clustered(weights, found))[0], expected)


def test_the_centroid_of_smallest_magnitude_becomes_zero():
    found = np.array([[0.3, -0.1, 0.2], [-3.0, -2.0, -1.0]], "float32")
    np.testing.assert_array_equal(
        numpy(centroids.with_zero(found)), np.array([[0.3, 0.0, 0.2], [-3.0, -2.0, 0.0]], "float32")
    )


def test_kmeans_plus_plus_draws_by_squared_distance():
    """From 0, 1 and 3 equally often; then, from 0 for example, 1 with 1 / 10 and 3 with 9 / 10."""
    weights = np.array([0.0, 1.0, 3.0])
    drawn = [tuple(starts.kmeans_plus_plus(weights, 2, np.random.default_rng(seed))) for seed in range(3000)]
    expected = {(0, 1): 1 / 10, (0, 3): 9 / 10, (1, 0): 1 / 5, (1, 3): 4 / 5, (3, 0): 9 / 13, (3, 1): 4 / 13}
    for pair, probability in expected.items():
        assert drawn.count(pair) / len(drawn) == pytest.approx(probability / 3, abs=0.03)


def test_fewer_different_weights_than_centroids():
    for start in starts.STARTS:
        weights = np.array([0.5] * 10 + [0.25] * 10)
        found = starts.first_centroids(weights, 5, start=start, rng=np.random.default_rng(0))
        assert found.shape == (5,) and np.isfinite(found).all()


def test_random_is_within_the_weights():
    weights = normal(100)
    found = starts.random(weights, 1000, np.random.default_rng(0))
    assert weights.min() <= found.min() < found.max() <= weights.max()
    assert found.mean() == pytest.approx((weights.min() + weights.max()) / 2, abs=0.05)


@pytest.mark.parametrize("start", starts.STARTS)
@pytest.mark.parametrize("keep_zero", [False, True])
def test_lloyd_lowers_the_squared_distance_to_a_fixed_point(start, keep_zero):
    weights = normal(400)
    weights[:100] = 0.0
    first = starts.first_centroids(weights, 8, start=start, rng=np.random.default_rng(1), keep_zero=keep_zero)
    losses = [loss(weights, starts.lloyd(weights, first, steps, keep_zero=keep_zero)) for steps in range(8)]
    assert all(b <= a + 1e-9 for a, b in zip(losses, losses[1:], strict=False)) and losses[-1] < losses[0]
    last = starts.lloyd(weights, first, 1000, keep_zero=keep_zero)
    nearest = np.abs(weights[:, None].astype("float64") - last).argmin(1)
    for index, centroid in enumerate(last):
        if (nearest == index).any() and not (keep_zero and centroid == 0):
            assert centroid == pytest.approx(weights[nearest == index].astype("float64").mean(), abs=1e-12)
    assert not keep_zero or 0.0 in last


def test_a_zero_that_is_kept_is_one_of_the_clusters():
    for start in starts.STARTS:
        for weights in (normal(100), np.abs(normal(100)), np.zeros(10), np.array([0.0] * 9 + [-1.0])):
            found = starts.first_centroids(weights, 6, start=start, rng=np.random.default_rng(0), keep_zero=True)
            assert found.shape == (6,) and 0.0 in found


@pytest.fixture(scope="module")
def tfmot():
    """TFMOT's starts and its lookup; their import leaves the process as it was."""
    before = dict(os.environ)
    pytest.importorskip("tensorflow_model_optimization.python.core.clustering.keras.clustering_centroids")
    pytest.importorskip("tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm")
    os.environ.clear()
    os.environ.update(before)
    parts = "clustering_centroids", "clustering_algorithm"
    return [sys.modules[f"tensorflow_model_optimization.python.core.clustering.keras.{part}"] for part in parts]


@pytest.mark.parametrize("clusters", [3, 8, 16])
@pytest.mark.parametrize("keep_zero", [False, True])
@pytest.mark.parametrize(
    "start, name", [("linear", "LinearCentroidsInitialisation"), ("density", "DensityBasedCentroidsInitialisation")]
)
def test_the_start_is_that_of_tfmot(tfmot, start, name, keep_zero, clusters):
    import tensorflow as tf

    weights = normal(30, 20)
    weights[RNG.random(weights.shape) < 0.4] = 0.0
    theirs = getattr(tfmot[0], name)(tf.constant(weights), clusters, preserve_sparsity=keep_zero)
    ours = starts.first_centroids(
        weights.reshape(-1), clusters, start=start, rng=np.random.default_rng(0), keep_zero=keep_zero
    )
    np.testing.assert_allclose(ours, theirs.get_cluster_centroids().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clusters", [2, 7, 16])
def test_the_assignment_is_that_of_tfmot(tfmot, clusters):
    import tensorflow as tf

    weights, found = normal(3, 3, 8, 5), np.sort(normal(clusters))
    theirs = tfmot[1].ClusteringAlgorithm(tf.Variable(found)).get_pulling_indices(tf.constant(weights)).numpy()
    ours = numpy(centroids.nearest(weights.reshape(1, -1), found[None])).reshape(weights.shape)
    np.testing.assert_array_equal(ours, theirs)
