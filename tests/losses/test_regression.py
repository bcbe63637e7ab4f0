"""Regression on logits against float64 NumPy written from the formula."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.losses.base import Context
from keras_kd.losses.logits import soft_targets
from keras_kd.losses.regression import LogitRegression, logit_regression
from keras_kd.serialization import deserialize, serialize


def expected(centered):
    def reference(teacher, student):
        values = np.zeros(teacher.shape[:-1])
        for row in np.ndindex(values.shape):
            t, s = teacher[row], student[row]
            if centered:
                t, s = t - t.sum() / len(t), s - s.sum() / len(s)
            values[row] = sum((a - b) ** 2 for a, b in zip(t, s, strict=True)) / len(t)
        return values

    return reference


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)) * 3


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("shape", [(1, 2), (4, 7)])
def test_is_the_formula(assert_is_the_formula, centered, shape):
    assert_is_the_formula(lambda t, s: logit_regression(t, s, centered), expected(centered), *draw(*shape))


@pytest.mark.parametrize("centered", [True, False])
def test_dense_outputs_have_a_value_per_position(centered):
    teacher, student = draw(2, 3, 2, 4)
    np.testing.assert_allclose(
        logit_regression(teacher, student, centered), expected(centered)(teacher, student), rtol=1e-7
    )


def test_is_twice_the_limit_of_soft_targets_at_a_high_temperature():
    teacher, student = draw(5, 6)
    np.testing.assert_allclose(
        logit_regression(teacher, student), 2 * np.asarray(soft_targets(teacher, student, 1e4)), rtol=1e-3
    )


def test_only_the_centered_one_is_blind_to_a_shift():
    teacher, student = draw(3, 5)
    shifted = student + np.array([[60.0], [-60.0], [1.0]])
    np.testing.assert_allclose(
        logit_regression(teacher, shifted), logit_regression(teacher, student), rtol=1e-6, atol=1e-9
    )
    assert (logit_regression(teacher, shifted, False) > logit_regression(teacher, student, False)).numpy().all()


def test_extreme_half_precision_logits_are_finite():
    value = logit_regression(np.float16([[6e4, -6e4]]), np.float16([[-6e4, 6e4]]))
    np.testing.assert_allclose(value, [1.2e5**2], rtol=1e-3)


def test_one_logit_is_refused_where_its_mean_is_taken_away():
    one = np.zeros((2, 1))
    with pytest.raises(ConfigurationError, match="0 for ever.*centered=False"):
        LogitRegression().validate_outputs(one, one)
    LogitRegression(centered=False).validate_outputs(one, one)


def test_other_classes_are_refused():
    with pytest.raises(ConfigurationError, match=r"\(2, 3\).*\(2, 4\)"):
        LogitRegression().validate_outputs(np.zeros((2, 3)), np.zeros((2, 4)))


def test_config_round_trip():
    loss = LogitRegression(centered=False, teacher="a", student="b")
    again = deserialize(serialize(loss))
    assert (again.centered, again.name) == (False, "logit_regression_b")
    teacher, student = draw(3, 4)
    value = again(teacher, student, context=Context())
    assert float(value) == pytest.approx(expected(False)(teacher, student).mean(), rel=1e-5)
