"""Prime-aware adaptive distillation against float64 NumPy written from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, Hint, SoftTargets, VariationalInformation, Weighted, get
from keras_kd.losses.prime_aware import PrimeAwareKD, prime_aware


def expected(losses, log_variance):
    variance = np.exp(log_variance) + 1e-6
    return losses / variance + np.log(variance)


def test_matches_the_formula(assert_matches_the_formula):
    losses = np.float64([0.0, 0.5, 2.0, 30.0])
    assert_matches_the_formula(lambda t, s: prime_aware(t, s), expected, losses, np.float64([-3.0, 0.0, 0.7, 2.0]))
    assert_matches_the_formula(lambda t, s: prime_aware(s, t), lambda t, s: expected(s, t), losses / 10, losses)


def test_the_best_variance_is_the_loss():
    log_variance = tf.Variable(np.log([0.2, 3.0]))
    with tf.GradientTape() as tape:
        value = prime_aware(np.float64([0.2, 3.0]), log_variance)
    np.testing.assert_allclose(tape.gradient(value, log_variance), 0.0, atol=1e-5)


@pytest.mark.parametrize("log_variance", [-1e4, -60.0, np.log(1e-6), 60.0, 1e4])
@pytest.mark.parametrize("loss", [0.0, 1.0, 1e4])
def test_extremes_are_finite_and_bounded_below(loss, log_variance):
    variables = [tf.Variable([np.float32(x)]) for x in (loss, log_variance)]
    with tf.GradientTape() as tape:
        value = prime_aware(*variables)
    assert np.isfinite(value).all() and value.numpy()[0] >= np.log(1e-6) - 1e-4
    assert all(np.isfinite(slope).all() for slope in tape.gradient(value, variables))


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def with_scale(loss, scale=0.7, shift=0.3):
    """Sets the scale and shift of the normalization, which starts at 0 and 0."""
    loss._norm.gamma.assign([scale])
    loss._norm.beta.assign([shift])
    return loss


def log_variances(loss, features):
    """The branch in NumPy, normalized by the statistics of the batch."""
    kernel, bias = (np.asarray(weight, "float64") for weight in loss._predict.weights)
    values = (features @ kernel + bias)[:, 0]
    values = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    return values * float(loss._norm.gamma.value[0]) + float(loss._norm.beta.value[0])


def test_starts_as_the_wrapped_loss():
    teacher, student = arrays((6, 5), (6, 5))
    assert float(PrimeAwareKD(Hint())(teacher, student)) == pytest.approx(float(Hint()(teacher, student)), rel=1e-5)


def test_class_matches_the_function():
    teacher, student = arrays((6, 5), (6, 5))
    loss = PrimeAwareKD(Hint())
    loss.build((None, 5), (None, 5))
    with_scale(loss)
    value = float(loss(teacher, student))
    squares = ((teacher - student).astype("float64") ** 2).mean(1)
    assert value == pytest.approx(expected(squares, log_variances(loss, student)).mean(), rel=1e-4)


def test_positions_share_the_variance_of_their_example():
    teacher, student = arrays((4, 3, 5), (4, 3, 5))
    loss = PrimeAwareKD(SoftTargets(temperature=2.0))
    loss.build((None, 3, 5), (None, 3, 5))
    with_scale(loss)
    plain = keras.ops.convert_to_numpy(SoftTargets(temperature=2.0).per_example(teacher, student).values)
    values = keras.ops.convert_to_numpy(loss.per_example(teacher, student).values)
    np.testing.assert_allclose(values, expected(plain, log_variances(loss, student.mean(1))), rtol=1e-4)


def test_rows_and_positions_of_weight_0_have_no_influence():
    """Neither on the value, nor on the statistics, nor on the variance of the other rows."""
    teacher, student = arrays((4, 3, 5), (4, 3, 5))
    weight = np.float32([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 1]])
    results = []
    for garbage in (0.0, 100.0):
        loss = PrimeAwareKD(Hint())
        keras.utils.set_random_seed(0)
        loss.build((None, 3, 5), (None, 3, 5))
        with_scale(loss)
        spoiled = [np.where(weight[..., None] > 0, x, np.float32(garbage)) for x in (teacher, student)]
        results.append((float(loss(*spoiled, sample_weight=weight)), loss.get_weights()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_weights_and_the_student_are_trained():
    teacher, student = arrays((6, 4, 4, 3), (6, 4, 4, 5))
    loss = PrimeAwareKD(Hint())
    loss.build((None, 4, 4, 3), (None, 4, 4, 5))
    with_scale(loss)
    student = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = loss(teacher, student, context=Context())
    names = [weight.path for weight in loss.trainable_weights]
    slopes = tape.gradient(value, [student, *(weight.value for weight in loss.trainable_weights)])
    assert len(names) == 7
    for name, slope in zip(["student", *names], slopes, strict=True):
        # a constant added before batch normalization has no effect
        assert np.isfinite(slope).all() and (np.abs(slope).max() > 1e-6 or "bias" in name), name


def test_by_name_with_settings():
    loss = get({"name": "prime_aware_kd", "loss": {"name": "hint", "teacher": "a", "student": "b"}, "weight": 2.0})
    assert isinstance(loss, Weighted) and isinstance(loss.loss, PrimeAwareKD)
    assert (loss.name, loss.teacher, loss.student) == ("prime_aware_hint_b", "a", "b")


@pytest.mark.parametrize(
    "make",
    [
        lambda: PrimeAwareKD(Weighted(Hint(), 2.0)),
        lambda: PrimeAwareKD(PrimeAwareKD(Hint())),
        lambda: PrimeAwareKD(VariationalInformation()),
        lambda: PrimeAwareKD("flow_of_solution"),
        lambda: PrimeAwareKD(keras.losses.CosineSimilarity()),
    ],
)
def test_losses_that_cannot_be_weighted_are_refused(make):
    with pytest.raises(ConfigurationError, match="cannot be weighted by a variance.*never negative"):
        make()


def test_a_scalar_is_refused():
    with pytest.raises(ConfigurationError, match="no examples to weight"):
        PrimeAwareKD(lambda teacher, student: keras.ops.mean(teacher - student))(*arrays((4, 3), (4, 3)))
