"""The objectives of image synthesis against float64 NumPy, values and gradients."""

import keras
import numpy as np
import pytest

from keras_kd.distillers.checks import training_step
from keras_kd.synthesis import objectives

rng = np.random.default_rng(0)
LOGITS, OTHER = rng.normal(size=(6, 4)) * 3, rng.normal(size=(6, 4)) * 3
IMAGES = rng.normal(size=(3, 5, 4, 2))
STORED = rng.normal(size=2), rng.random(2) + 0.5


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def total_variation(x):
    sides = (x[:, :, 1:] - x[:, :, :-1], x[:, 1:] - x[:, :-1])
    corners = (x[:, 1:, 1:] - x[:, :-1, :-1], x[:, 1:, :-1] - x[:, :-1, 1:])
    return sum(np.linalg.norm(part) for part in (*sides, *corners))


def batch_norm(x):
    axes = (0, 1, 2)
    return np.linalg.norm(x.mean(axes) - STORED[0]) + np.linalg.norm(x.var(axes) - STORED[1])


def agreement(z):
    p, q = softmax(z / 3), softmax(OTHER / 3)
    mixed = (p + q) / 2
    return 1 - 0.5 * ((p * np.log(p / mixed)).sum(-1) + (q * np.log(q / mixed)).sum(-1))


def entropy(z):
    mean = softmax(z).mean(0)
    return (mean * np.log(mean)).sum()


CASES = {
    "one_hot": (objectives.one_hot_loss, lambda z: -np.log(softmax(z).max(-1)), LOGITS),
    "activation": (objectives.activation_loss, lambda x: -np.abs(x).mean((1, 2, 3)), IMAGES),
    "entropy": (objectives.information_entropy_loss, entropy, LOGITS),
    "batch_norm": (lambda x: objectives.batch_norm_loss([x], STORED[:1], STORED[1:]), batch_norm, IMAGES),
    "variation": (objectives.total_variation, total_variation, IMAGES),
    "agreement": (lambda z: objectives.agreement(z, OTHER.astype("float32")), agreement, LOGITS),
}


def gradient_of(function, x, step=1e-6):
    """Central differences of the sum of a function's values."""
    made = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        made[index] = (np.sum(function(moved[0])) - np.sum(function(moved[1]))) / (2 * step)
    return made


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_papers(name):
    function, expected, x = CASES[name]
    found = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x.astype("float32"))))
    np.testing.assert_allclose(found, expected(x), rtol=1e-5, atol=1e-6)
    total = training_step().input_gradient(
        lambda x: keras.ops.sum(function(x)), keras.ops.convert_to_tensor(x.astype("float32"))
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(total), gradient_of(expected, x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_where_they_break(name):
    function, _, x = CASES[name]
    for extreme in (np.zeros_like(x), np.sign(x) * 60):
        gradient = training_step().input_gradient(
            lambda x: keras.ops.sum(function(x)), keras.ops.convert_to_tensor(extreme.astype("float32"))
        )
        assert np.isfinite(keras.ops.convert_to_numpy(gradient)).all()
