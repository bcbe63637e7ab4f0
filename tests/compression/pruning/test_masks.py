"""Masks against NumPy from the definitions, and against TFMOT."""

import os
import sys

import numpy as np
import pytest
from keras import ops

from keras_kd.compression.pruning import masks

RNG = np.random.default_rng(0)


def numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def magnitudes(*shape):
    return RNG.random(shape).astype("float32") + 0.01


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 3, 4, 8)])
@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.5, 0.9, 1.0])
def test_unstructured_keeps_the_largest(shape, sparsity):
    scores = magnitudes(*shape)
    kept = max(1, round(scores.size * (1 - sparsity)))
    expected = np.zeros(scores.size)
    expected[np.argsort(-scores.reshape(-1), kind="stable")[:kept]] = 1
    np.testing.assert_array_equal(numpy(masks.unstructured(scores, sparsity)), expected.reshape(shape))


def test_ties_are_broken_so_that_the_number_is_exact():
    for scores in (np.zeros((4, 5)), np.ones((4, 5)), RNG.integers(0, 3, (4, 5))):
        mask = numpy(masks.unstructured(scores.astype("float32"), 0.65))
        assert mask.sum() == 7
        assert scores[mask == 1].min() >= scores[mask == 0].max()


@pytest.mark.parametrize("block", [(1, 4), (2, 2), (3, 4), (5, 7)])
@pytest.mark.parametrize("shape", [(6, 8), (2, 3, 6, 8)])
def test_blocks_keep_those_of_largest_mean(shape, block):
    scores = magnitudes(*shape)
    height, width = block
    places = [
        (*position, slice(row, row + height), slice(column, column + width))
        for position in np.ndindex(shape[:-2])
        for row in range(0, shape[-2], height)
        for column in range(0, shape[-1], width)
    ]
    places.sort(key=lambda place: -scores[place].mean(dtype="float64"))
    expected = np.zeros(shape)
    for place in places[: max(1, round(len(places) * 0.4))]:
        expected[place] = 1
    np.testing.assert_array_equal(numpy(masks.blocks(scores, 0.6, block)), expected)


@pytest.mark.parametrize("shape", [(8, 3), (10, 3), (2, 3, 9, 5)])
def test_two_of_four_neighbors(shape):
    scores = magnitudes(*shape)
    expected = np.zeros(shape)
    for position in np.ndindex(shape[:-2]):
        for start in range(0, shape[-2], 4):
            for column in range(shape[-1]):
                group = scores[(*position, slice(start, start + 4), column)]
                for best in np.argsort(-group)[:2]:
                    expected[(*position, start + best, column)] = 1
    mask = numpy(masks.n_of_m(scores, 0.0 if shape[-2] % 4 else 0.5, 2, 4))
    if shape[-2] % 4 == 0:
        np.testing.assert_array_equal(mask, expected)
    mask = numpy(masks.n_of_m(scores, 0.5, 2, 4))
    assert (expected >= mask).all() and mask.sum() == min(expected.sum(), round(scores.size / 2))


def test_n_of_m_beyond_its_own_sparsity_keeps_the_structure():
    scores = magnitudes(16, 10)
    mask = numpy(masks.n_of_m(scores, 0.8, 2, 4))
    assert mask.sum() == 32
    assert mask.reshape(4, 4, 10).sum(axis=1).max() <= 2
    structure = numpy(masks.n_of_m(scores, 0.5, 2, 4))
    assert scores[mask == 1].min() > scores[(structure == 1) & (mask == 0)].max()


def test_n_of_m_on_its_way():
    scores = magnitudes(16, 10)
    mask = numpy(masks.n_of_m(scores, 0.25, 2, 4))
    assert (mask.reshape(4, 4, 10).sum(axis=1) == 3).all()
    assert (numpy(masks.n_of_m(scores, 0.0, 2, 4)) == 1).all()


@pytest.fixture(scope="module")
def tfmot():
    """TFMOT's pruning; its import leaves the process as it was."""
    before = dict(os.environ)
    module = pytest.importorskip("tensorflow_model_optimization.python.core.sparsity.keras.pruning_impl")
    schedules = sys.modules["tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"]
    os.environ.clear()
    os.environ.update(before)
    return module, schedules


def theirs(tfmot, weights, sparsity, **settings):
    import tensorflow as tf

    implementation, schedules = tfmot
    pruning = implementation.Pruning(
        lambda: 0, [], schedules.ConstantSparsity(sparsity, 0), settings.get("block", (1, 1)), "AVG",
        settings.get("n_of_m"),
    )  # fmt: skip
    weights = tf.constant(weights)
    return pruning._maybe_update_block_mask(weights)[1].numpy()


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("shape", [(13, 7), (3, 3, 5, 8)])
def test_unstructured_is_that_of_tfmot(tfmot, shape, sparsity):
    weights = RNG.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(
        numpy(masks.unstructured(np.abs(weights), sparsity)), theirs(tfmot, weights, sparsity)
    )


@pytest.mark.parametrize("block", [(1, 4), (2, 2), (4, 1)])
def test_blocks_are_those_of_tfmot(tfmot, block):
    weights = RNG.normal(size=(12, 8)).astype("float32")
    np.testing.assert_array_equal(
        numpy(masks.blocks(np.abs(weights), 0.6, block)), theirs(tfmot, weights, 0.6, block=block)
    )


@pytest.mark.parametrize("shape", [(12, 7), (3, 3, 8, 5)])
def test_two_of_four_is_that_of_tfmot(tfmot, shape):
    weights = RNG.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(
        numpy(masks.n_of_m(np.abs(weights), 0.5, 2, 4)), theirs(tfmot, weights, 0.5, n_of_m=(2, 4))
    )
