"""The difficulty of an example, compared with direct float64 formulas."""

import numpy as np
import pytest

from keras_kd.curricula import difficulty

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)) * 5


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_doubt_is_minus_the_log_of_the_top_probability():
    np.testing.assert_allclose(difficulty.softmax_doubt(LOGITS), -np.log(softmax(LOGITS).max(-1)), rtol=1e-10)
    p = sigmoid(LOGITS)
    np.testing.assert_allclose(difficulty.sigmoid_doubt(LOGITS), -np.log(np.maximum(p, 1 - p)).mean(-1), rtol=1e-10)


def test_one_unit_is_the_second_of_two_classes():
    p = sigmoid(LOGITS[:, :1])
    expected = -np.log(np.maximum(p, 1 - p))[:, 0]
    np.testing.assert_allclose(difficulty.softmax_doubt(LOGITS[:, :1]), expected, rtol=1e-10)


def test_certain_examples_stay_apart():
    """Their probabilities all round to 1, in float64 as well."""
    logits = np.array([[60.0, 0.0, 0.0], [80.0, 0.0, 0.0], [70.0, 0.0, 0.0], [70.0, 70.0, 0.0]], "float32")
    assert (softmax(logits.astype("float64")).max(-1)[:3] == 1).all()
    assert np.argsort(difficulty.softmax_doubt(logits)).tolist() == [1, 2, 0, 3]
    expected = [2 * np.exp(-60), 2 * np.exp(-80), 2 * np.exp(-70), np.log(2)]
    np.testing.assert_allclose(difficulty.softmax_doubt(logits), expected, rtol=1e-6)


def test_positions_are_averaged():
    images = RNG.normal(size=(2, 3, 3, 4))
    expected = -np.log(softmax(images).max(-1)).mean((1, 2))
    np.testing.assert_allclose(difficulty.softmax_doubt(images), expected, rtol=1e-10)


def test_cross_entropy_over_labeled_positions():
    images, labels = RNG.normal(size=(3, 2, 2, 4)), RNG.integers(0, 4, (3, 2, 2))
    labels[0, 0] = -1
    labels[2] = -1
    shares = (labels[..., None] == np.arange(4)).astype(float)
    logs = np.log(softmax(images))
    expected = [np.mean([-logs[n, i, j, labels[n, i, j]] for i, j in np.argwhere(labels[n] >= 0)]) for n in (0, 1)]
    values = difficulty.cross_entropy(images, shares)
    np.testing.assert_allclose(values[:2], expected, rtol=1e-10)
    assert np.isnan(values[2])
    soft = softmax(RNG.normal(size=(6, 4)))
    np.testing.assert_allclose(
        difficulty.cross_entropy(LOGITS, soft), -(soft * np.log(softmax(LOGITS))).sum(-1), rtol=1e-10
    )


def test_binary_cross_entropy_and_squared_error_over_known_labels():
    labels = RNG.integers(0, 2, (6, 4)).astype(float)
    labels[0, :2], labels[1] = -1, -1
    p = sigmoid(LOGITS)
    each = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    values = difficulty.binary_cross_entropy(LOGITS, labels)
    assert values[0] == pytest.approx(each[0, 2:].mean()) and np.isnan(values[1])
    np.testing.assert_allclose(values[2:], each[2:].mean(-1), rtol=1e-8)
    targets = np.where(labels < 0, np.nan, labels * 3)
    values = difficulty.squared_error(LOGITS, targets)
    assert values[0] == pytest.approx(((LOGITS - targets)[0, 2:] ** 2).mean()) and np.isnan(values[1])
    np.testing.assert_allclose(values[2:], ((LOGITS - targets)[2:] ** 2).mean(-1), rtol=1e-10)
