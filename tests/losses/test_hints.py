"""Hints against float64 NumPy written from the formulas."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Hint, hint


def expected(metric):
    def reference(teacher, student):
        t, s = teacher.reshape(len(teacher), -1), student.reshape(len(student), -1)
        if metric == "mse":
            return ((t - s) ** 2).mean(-1)
        if metric == "l1":
            return np.abs(t - s).mean(-1)
        return 1 - (t * s).sum(-1) / np.linalg.norm(t, axis=-1) / np.linalg.norm(s, axis=-1)

    return reference


@pytest.mark.parametrize("metric", ["mse", "l1", "cosine"])
@pytest.mark.parametrize("shape", [(1, 5), (4, 3, 2, 2), (2, 6, 3)])
def test_matches_the_formula(assert_matches_the_formula, metric, shape):
    teacher, student = np.random.default_rng(0).normal(size=(2, *shape))
    assert_matches_the_formula(lambda t, s: hint(t, s, metric), expected(metric), teacher, student)


@pytest.mark.parametrize("metric", ["mse", "l1", "cosine"])
def test_is_finite_at_zero_features(metric):
    assert np.isfinite(hint(np.zeros((2, 4)), np.ones((2, 4)), metric)).all()
    np.testing.assert_array_equal(hint(np.zeros((2, 4)), np.zeros((2, 4)), metric), [0, 0])


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigurationError, match="'l2'.*'mse', 'l1', 'cosine'"):
        Hint(metric="l2")


def test_the_regressor_may_end_in_a_relu():
    loss = Hint(projector="conv", projector_activation="relu")
    teacher = np.full((4, 2, 2, 3), -1.0, "float32")  # a ReLU cannot match negative values
    values = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).astype("float32")
    assert float(loss(teacher, values)) >= 1.0
    assert loss.projection.endswith("+ relu")
    with pytest.raises(ConfigurationError, match="custom projector.*inside the layer"):
        Hint(projector=keras.layers.Dense(3), projector_activation="relu")
