"""Mean gradients against float64 NumPy, and data that cannot be taken."""

import keras
import numpy as np
import pytest

from keras_kd.compression.gradients import mean_gradients
from keras_kd.errors import ConfigurationError

RNG = np.random.default_rng(0)


def linear():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False, name="head")])


@pytest.mark.parametrize("count, sizes", [(1, [1]), (32, [32]), (33, [17, 16]), (70, [24, 24, 22])])
def test_no_batch_of_arrays_is_much_smaller_than_the_others(count, sizes):
    """Since batches count alike, a batch of 32 and one of 1 would give half of the weight to one example."""
    model, x, y = linear(), RNG.normal(size=(count, 3)), RNG.normal(size=(count, 1))
    found = mean_gradients(model, (x, y), "mean_squared_error")["head/kernel"]
    parts = np.split(np.arange(count), np.cumsum(sizes)[:-1])
    errors = x @ np.asarray(model.layers[0].kernel, "float64") - y
    expected = np.mean([(2 * x[rows] * errors[rows]).mean(axis=0) for rows in parts], axis=0)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_examples_may_have_weights():
    model, x, y = linear(), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 1))
    found = mean_gradients(model, (x, y, np.zeros(4)), "mean_squared_error")
    assert not found["head/kernel"].any()


@pytest.mark.parametrize("data", [(np.ones((2, 3)),), [1, 2, 3, 4]])
def test_other_data_are_refused(data):
    with pytest.raises(ConfigurationError, match="Invalid 'data'"):
        mean_gradients(linear(), data, "mean_squared_error")
