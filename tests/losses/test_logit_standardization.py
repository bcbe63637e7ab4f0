"""Logit standardization against float64 NumPy from the paper, with the standard deviation of the published code."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, Hint, SoftTargets, Weighted, get
from keras_kd.losses.logit_standardization import LogitStandardization, standardize_logits
from keras_kd.serialization import deserialize, serialize


def expected(logits, temperature=1.0):
    scores = np.zeros_like(logits, dtype="float64")
    for row in np.ndindex(logits.shape[:-1]):
        scores[row] = (logits[row] - logits[row].mean()) / (logits[row].std(ddof=1) + 1e-7) / temperature
    return scores


def expected_loss(teacher, student, temperature):
    log_p, log_q = (log_softmax(expected(logits) / temperature, -1) for logits in (teacher, student))
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)) * np.reshape([3.0, 0.5], (2, *[1] * len(shape))) + 2.0


@pytest.mark.parametrize("shape", [(1, 3), (4, 7)])
def test_loss_matches_the_formula(assert_matches_the_formula, shape):
    teacher, student = draw(*shape)
    soft_targets = SoftTargets(temperature=2.0)

    def loss(teacher, student):
        return soft_targets.call(standardize_logits(teacher), standardize_logits(student), Context())

    # the reference subtracts a mean that takes half of the digits of a float16
    assert_matches_the_formula(loss, lambda t, s: expected_loss(t, s, 2.0), teacher, student)


@pytest.mark.parametrize("shape", [(1, 2), (4, 7), (2, 3, 5)])
def test_scores_match_the_formula(shape):
    logits = np.random.default_rng(1).normal(size=shape) * 5
    np.testing.assert_allclose(standardize_logits(logits, 3.0), expected(logits, 3.0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        standardize_logits(logits.astype("float32"), 3.0), expected(logits, 3.0), rtol=1e-4, atol=1e-6
    )
    halves = logits.astype("float16")
    scores = standardize_logits(halves)
    assert scores.dtype == "float32"
    np.testing.assert_allclose(scores, expected(halves.astype("float64")), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 0.1, 60.0, 1e4, -1e4])
def test_a_row_of_equal_logits_is_0_with_zero_gradient(size):
    logits = tf.Variable(np.full((2, 7), size, "float32"))
    with tf.GradientTape() as tape:
        scores = standardize_logits(logits)
        value = tf.reduce_sum(scores * np.arange(7, dtype="float32"))
    np.testing.assert_array_equal(scores, np.zeros((2, 7)))
    np.testing.assert_array_equal(tape.gradient(value, logits), np.zeros((2, 7)))


@pytest.mark.parametrize("size", [60.0, 1e4])
def test_extreme_logits_have_finite_gradients(size):
    teacher = np.float32([[size, -size, 0.0], [0.0, 0.0, size]])
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = LogitStandardization(SoftTargets(temperature=2.0))(teacher, student)
    assert float(value) == pytest.approx(expected_loss(teacher, -teacher, 2.0).mean(), rel=1e-5)
    assert np.isfinite(tape.gradient(value, student).numpy()).all()


def test_is_invariant_to_scale_and_shift():
    teacher, student = draw(4, 6)
    loss = LogitStandardization(SoftTargets(temperature=2.0))
    assert float(loss(teacher, 7 * teacher - 3)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(teacher, 7 * student - 3)) == pytest.approx(float(loss(teacher, student)), rel=1e-5)


def test_the_wrapped_loss_keeps_its_temperature_weights_and_mask():
    teacher, student = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    masked = tf.convert_to_tensor(student.astype("float32"))
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    masked._keras_mask = tf.convert_to_tensor(mask)
    loss = LogitStandardization(SoftTargets())
    value = loss(teacher, masked, sample_weight=np.float32([1, 2, 0]), context=Context(temperature=3.0))
    each = expected_loss(teacher, student, 3.0)
    rows = [each[row][mask[row]].mean() for row in range(3)]
    assert float(value) == pytest.approx((rows[0] + 2 * rows[1]) / 3, rel=1e-4)


def test_config_round_trip_with_a_schedule():
    inner = SoftTargets(schedules.Linear(8.0, 1.0, steps=10), teacher="a", student="b", reduction="sum")
    loss = LogitStandardization(inner)
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss)
    assert (again.teacher, again.student, again.reduction) == ("a", "b", "sum")
    assert again.name == "standardized_soft_targets_b"
    teacher, student = draw(3, 4)
    context = Context(step=5)
    assert float(again(teacher, student, context=context)) == float(loss(teacher, student, context=context)) > 0


def test_by_name_and_by_mapping():
    assert LogitStandardization("soft_targets").loss.temperature is None
    settings = {"name": "logit_standardization", "loss": {"name": "soft_targets", "temperature": 2.0}, "weight": 9.0}
    loss = get(settings)
    assert isinstance(loss, Weighted) and isinstance(loss.loss, LogitStandardization)
    assert loss.loss.loss.temperature == 2.0


@pytest.mark.parametrize("inner", [Weighted(SoftTargets(), 9.0), {"name": "soft_targets", "weight": 9.0}])
def test_a_weight_inside_is_refused(inner):
    with pytest.raises(ConfigurationError, match="a weighted loss.*Weighted\\(LogitStandardization"):
        LogitStandardization(inner)


def test_shapes_that_the_wrapped_loss_refuses_are_refused():
    with pytest.raises(ConfigurationError, match="always be 0"):
        LogitStandardization(SoftTargets()).validate_outputs(np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(ConfigurationError, match="the same classes"):
        LogitStandardization(Hint()).validate_outputs(np.zeros((2, 3)), np.zeros((2, 4)))
