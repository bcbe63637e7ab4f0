"""Regression on logits against float64 NumPy written from the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses.base import Context
from keras_kd.losses.logits import soft_targets
from keras_kd.losses.regression import (
    LogitRegression,
    OutputRegression,
    logit_regression,
    output_regression,
)
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
def test_matches_the_formula(assert_matches_the_formula, centered, shape):
    assert_matches_the_formula(lambda t, s: logit_regression(t, s, centered), expected(centered), *draw(*shape))


@pytest.mark.parametrize("centered", [True, False])
def test_dense_outputs_have_a_value_per_position(centered):
    teacher, student = draw(2, 3, 2, 4)
    np.testing.assert_allclose(
        logit_regression(teacher, student, centered), expected(centered)(teacher, student), rtol=1e-7
    )


def test_equals_twice_the_limit_of_soft_targets_at_high_temperature():
    teacher, student = draw(5, 6)
    np.testing.assert_allclose(
        logit_regression(teacher, student), 2 * np.asarray(soft_targets(teacher, student, 1e4)), rtol=1e-3
    )


def test_only_the_centered_form_is_invariant_to_a_shift():
    teacher, student = draw(3, 5)
    shifted = student + np.array([[60.0], [-60.0], [1.0]])
    np.testing.assert_allclose(
        logit_regression(teacher, shifted), logit_regression(teacher, student), rtol=1e-6, atol=1e-9
    )
    assert (logit_regression(teacher, shifted, False) > logit_regression(teacher, student, False)).numpy().all()


def test_extreme_half_precision_logits_are_finite():
    value = logit_regression(np.float16([[6e4, -6e4]]), np.float16([[-6e4, 6e4]]))
    np.testing.assert_allclose(value, [1.2e5**2], rtol=1e-3)


def test_a_single_centered_logit_is_refused():
    one = np.zeros((2, 1))
    with pytest.raises(ConfigurationError, match=r"always be 0.*centered=False.*OutputRegression\(\)"):
        LogitRegression().validate_outputs(one, one)
    LogitRegression(centered=False).validate_outputs(one, one)


def test_different_classes_are_refused():
    with pytest.raises(ConfigurationError, match=r"\(2, 3\).*\(2, 4\)"):
        LogitRegression().validate_outputs(np.zeros((2, 3)), np.zeros((2, 4)))


def test_config_round_trip():
    loss = LogitRegression(centered=False, teacher="a", student="b")
    again = deserialize(serialize(loss))
    assert (again.centered, again.name) == (False, "logit_regression_b")
    teacher, student = draw(3, 4)
    value = again(teacher, student, context=Context())
    assert float(value) == pytest.approx(expected(False)(teacher, student).mean(), rel=1e-5)


def numbers(difference, delta):
    """Each difference by its definition, entry by entry in float64."""

    def of_one(error):
        if difference == "squared":
            return error**2
        if difference == "absolute":
            return abs(error)
        return error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)

    def reference(teacher, student):
        values = np.zeros(teacher.shape[:-1])
        for row in np.ndindex(values.shape):
            errors = [b - a for a, b in zip(teacher[row], student[row], strict=True)]
            values[row] = sum(map(of_one, errors)) / len(errors)
        return values

    return reference


CASES = [("squared", 1.0), ("absolute", 1.0), ("huber", 1.0), ("huber", 2.5)]


@pytest.mark.parametrize(("difference", "delta"), CASES)
@pytest.mark.parametrize("shape", [(6, 1), (4, 7)])
def test_output_regression_matches_the_formula(assert_matches_the_formula, difference, delta, shape):
    assert_matches_the_formula(
        lambda t, s: output_regression(t, s, difference, delta), numbers(difference, delta), *draw(*shape)
    )


@pytest.mark.parametrize(("difference", "delta"), CASES)
def test_output_regression_equals_the_compiled_loss_on_the_teachers_outputs(difference, delta):
    theirs = {
        "squared": keras.losses.MeanSquaredError(),
        "absolute": keras.losses.MeanAbsoluteError(),
        "huber": keras.losses.Huber(delta),
    }[difference]
    teacher, student = draw(5, 3).astype("float32")
    ours = OutputRegression(difference=difference, delta=delta)
    assert float(ours(teacher, student)) == pytest.approx(float(theirs(teacher, student)), rel=1e-6)


@pytest.mark.parametrize("difference", ["squared", "absolute", "huber"])
def test_output_regression_has_zero_gradient_at_a_tie(difference):
    student = tf.Variable(np.float32([[2.0], [0.0]]))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(output_regression(np.float32([[2.0], [0.0]]), student, difference))
    np.testing.assert_array_equal(tape.gradient(value, student), np.zeros((2, 1)))


def test_one_number_per_example_without_an_axis_is_not_averaged_over_the_batch():
    teacher, student = draw(5)
    np.testing.assert_allclose(output_regression(teacher, student), (student - teacher) ** 2, rtol=1e-7)


def test_sigmoid_outputs_are_compared_after_the_activation():
    teacher, student = draw(5, 2)
    bounded = [1 / (1 + np.exp(-x)) for x in (teacher, student)]
    value = float(OutputRegression(activation="sigmoid")(teacher, student))
    assert value == pytest.approx(np.mean((bounded[1] - bounded[0]) ** 2), rel=1e-5)


def test_outputs_of_different_shapes_are_refused():
    for one, other in (((2, 1), (2, 4)), ((2, 4, 1), (2, 1, 1)), ((2,), (2, 1))):
        with pytest.raises(ConfigurationError, match="different shapes.*Name the outputs"):
            OutputRegression().validate_outputs(np.zeros(one), np.zeros(other))


@pytest.mark.parametrize("settings", [{"difference": "cubed"}, {"delta": 0}, {"activation": "softmax"}])
def test_invalid_settings_of_output_regression_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        OutputRegression(**settings)


def test_config_round_trip_of_output_regression():
    loss = OutputRegression(difference="huber", delta=0.5, activation="sigmoid", student="price")
    again = deserialize(serialize(loss))
    assert again.get_config() == loss.get_config() and again.name == "output_regression_price"
