"""Movement pruning against float64 NumPy, from the formulas of the paper."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_kd as kd
from keras_kd.compression import Pruning, sparsity, strip

RATE = 0.3


def numpy_steps(x, y, weight, num_steps, kept_at):
    """SGD on the mean squared error of `x @ (weight * mask)`, the mask from the scores before each step."""
    scores, masks = np.zeros_like(weight), []
    for step in range(num_steps):
        mask = np.zeros(weight.size)
        mask[np.argsort(-scores.reshape(-1), kind="stable")[: kept_at[step]]] = 1
        masks.append(mask.reshape(weight.shape))
        errors = x @ (weight * masks[-1]) - y
        gradient = x.T @ (2 * errors / errors.size)
        weight, scores = weight - RATE * gradient * masks[-1], scores - RATE * gradient * weight
    return weight, scores, masks


def test_two_steps_of_sgd_and_more():
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(16, 5)), rng.normal(size=(16, 4)), rng.normal(size=(5, 4))
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, use_bias=False, name="dense")])
    model.layers[0].kernel.assign(weight)
    schedule = kd.schedules.Linear(0.0, 0.5, steps=2)
    sparse = Pruning(schedule, score="movement", frequency=1).apply(model, verbose=False)
    sparse.compile(keras.optimizers.SGD(RATE), loss="mse")
    layer = sparse.layers[0]
    function = layer.reparametrizations["kernel"]
    came_back, before = False, None
    for step in range(1, 7):
        sparse.train_on_batch(x, y)
        kept = [20, 15, 10, 10, 10, 10]
        expected, scores, masks = numpy_steps(x, y, weight, step, kept)
        np.testing.assert_array_equal(ops.convert_to_numpy(function.mask), masks[-1])
        np.testing.assert_allclose(ops.convert_to_numpy(function.movement), scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ops.convert_to_numpy(layer.layer.kernel), expected, rtol=1e-4, atol=1e-6)
        came_back = came_back or (before is not None and (masks[-1] > before).any())
        before = masks[-1]
    small = strip(sparse)
    np.testing.assert_array_equal(small.predict(x, verbose=0), sparse.predict(x, verbose=0))
    assert sparsity(sparse) == {"dense/kernel": 0.5} and len(small.weights) == 1


@pytest.mark.parametrize("pattern", ["2:4", "2x2"])
def test_scores_below_zero_keep_the_pattern(pattern):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False)])
    sparse = Pruning(kd.schedules.Linear(0.0, 0.5, steps=1), score="movement", pattern=pattern, frequency=1).apply(
        model, verbose=False
    )
    function = sparse.layers[0].reparametrizations["kernel"]
    scores = -np.arange(1.0, 25.0).reshape(6, 4)
    function.movement.assign(scores)
    for _ in range(2):
        sparse(np.ones((1, 6)), training=True)
    mask = ops.convert_to_numpy(function.mask)
    assert mask.mean() == 0.5
    if pattern == "2:4":
        assert (mask == [[1], [1], [0], [0], [1], [0]]).all() or mask[:4].sum(axis=0).max() == 2
    else:
        assert mask[:2].all() and mask[4:].sum() == 0
