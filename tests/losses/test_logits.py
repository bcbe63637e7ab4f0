"""Soft targets against float64 NumPy written from the formula."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_expit, log_softmax
from scipy.special import softmax as scipy_softmax

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, SoftTargets, binary_soft_targets, soft_targets
from keras_kd.serialization import deserialize, serialize


def expected_soft_targets(teacher, student, temperature):
    teacher, student = teacher.astype("float64") / temperature, student.astype("float64") / temperature
    log_p, log_q = log_softmax(teacher, -1), log_softmax(student, -1)
    return temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), -1)


def expected_gradient(teacher, student, temperature):
    """d loss / d student = T * (q - p)."""
    difference = scipy_softmax(student.astype("float64") / temperature, -1) - scipy_softmax(
        teacher.astype("float64") / temperature, -1
    )
    return temperature * difference


def expected_binary(teacher, student, temperature):
    t, s = teacher.astype("float64") / temperature, student.astype("float64") / temperature
    p = np.exp(log_expit(t))
    divergence = p * (log_expit(t) - log_expit(s)) + np.exp(log_expit(-t)) * (log_expit(-t) - log_expit(-s))
    return temperature**2 * divergence.mean(-1)


def draw(shape, scale=3.0, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(2, *shape)) * scale).astype("float32")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (3, 1000), (2, 5, 6), (2, 3, 4, 5)])
def test_values_and_gradients_match_the_formula(shape, temperature):
    teacher, student = draw(shape)
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = soft_targets(teacher, variable, temperature)
    gradient = tape.gradient(value, variable)  # of the sum over examples

    np.testing.assert_allclose(value, expected_soft_targets(teacher, student, temperature), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradient, expected_gradient(teacher, student, temperature), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_saturated_logits_give_finite_values_and_the_right_gradient(size, temperature):
    teacher = np.array([[size, -size, 0.0], [size, -size, 0.0], [0.0, 0.0, 0.0]], "float32")
    student = np.array([[-size, size, 0.0], [size, -size, 0.0], [size, -size, 0.0]], "float32")
    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        value = soft_targets(teacher, variable, temperature)

    np.testing.assert_allclose(value, expected_soft_targets(teacher, student, temperature), rtol=1e-5)
    gradient = tape.gradient(value, variable)
    np.testing.assert_allclose(gradient, expected_gradient(teacher, student, temperature), rtol=1e-4, atol=1e-6)


def test_the_saturated_case_that_a_clipped_divergence_gets_wrong():
    value = soft_targets(np.float32([[60, -60]]), np.float32([[-60, 60]]), 1.0)
    assert float(value[0]) == pytest.approx(120.0, rel=1e-6)


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(
    logits=hnp.arrays("float32", (2, 3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    temperature=st.floats(0.5, 50),
)
def test_never_negative_and_never_infinite(logits, temperature):
    value = keras.ops.convert_to_numpy(soft_targets(logits[0], logits[1], temperature))
    assert np.isfinite(value).all() and (value >= 0).all()


def test_a_value_that_rounding_made_negative_is_0_and_keeps_its_gradient():
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(200, 10)).astype("float32") * 5
    student = tf.Variable(teacher + rng.normal(size=(200, 10)).astype("float32") * 1e-5)
    with tf.GradientTape() as tape:
        value = soft_targets(teacher, student, 1.0)
    assert float(tf.reduce_min(value)) == 0.0  # without the correction, several values are -1e-8
    gradient = tape.gradient(value, student).numpy()
    assert (np.abs(gradient).max(-1) > 0).all()


def test_half_precision_logits_are_compared_in_float32():
    teacher, student = draw((4, 10), scale=8.0).astype("float16")
    value = soft_targets(teacher, student, 20.0)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, expected_soft_targets(teacher, student, 20.0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 1), (5, 7), (2, 3, 4)])
def test_binary_soft_targets_match_the_formula(shape):
    teacher, student = draw(shape, scale=5.0)
    value = binary_soft_targets(teacher, student, 3.0)
    np.testing.assert_allclose(value, expected_binary(teacher, student, 3.0), rtol=1e-5, atol=1e-6)


def test_binary_soft_targets_of_one_output_are_soft_targets_of_two_classes():
    teacher, student = draw((6, 1))
    two = [np.concatenate([z, np.zeros_like(z)], -1) for z in (teacher, student)]
    np.testing.assert_allclose(
        binary_soft_targets(teacher, student, 2.0), soft_targets(*two, 2.0), rtol=1e-4, atol=1e-6
    )


def test_binary_soft_targets_are_finite_at_any_size():
    value = binary_soft_targets(np.float32([[1e4, -1e4]]), np.float32([[-1e4, 1e4]]), 1.0)
    assert float(value[0]) == pytest.approx(1e4)


def test_one_class_under_a_softmax_is_refused():
    with pytest.raises(ConfigurationError, match="always be 0.*sigmoid"):
        SoftTargets().validate_outputs(keras.ops.zeros((2, 1)), keras.ops.zeros((2, 1)))


def test_unknown_activation_is_refused():
    with pytest.raises(ConfigurationError, match="'relu'.*'softmax', 'sigmoid'"):
        SoftTargets(activation="relu")


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), "hot"])
def test_an_invalid_temperature_is_refused(temperature):
    with pytest.raises(ConfigurationError):
        SoftTargets(temperature=temperature)


def by_hand(p, q, divergence):
    """A divergence of two lists of probabilities, by its definition."""

    def kl(a, b):
        return sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))

    if divergence == "jensen_shannon":
        middle = (p + q) / 2
        return (kl(p, middle) + kl(q, middle)) / 2
    return kl(p, q) if divergence == "kl" else kl(q, p)


def expected_divergence(divergence, temperature, binary=False):
    def reference(teacher, student):
        values = np.zeros(teacher.shape[:-1])
        for row in np.ndindex(values.shape):
            t, s = teacher[row] / temperature, student[row] / temperature
            if binary:
                pairs = [[np.array([x, 1 - x]) for x in 1 / (1 + np.exp(-np.array(z)))] for z in (t, s)]
                values[row] = np.mean([by_hand(p, q, divergence) for p, q in zip(*pairs, strict=True)])
            else:
                values[row] = by_hand(scipy_softmax(t), scipy_softmax(s), divergence)
        return temperature**2 * values

    return reference


DIVERGENCES = ["kl", "reverse_kl", "jensen_shannon"]


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("function", [soft_targets, binary_soft_targets])
@pytest.mark.parametrize(("shape", "temperature"), [((1, 2), 1.0), ((4, 5), 3.0)])
def test_every_divergence_matches_the_formula(assert_matches_the_formula, function, divergence, shape, temperature):
    assert_matches_the_formula(
        lambda t, s: function(t, s, temperature, divergence),
        expected_divergence(divergence, temperature, binary=function is binary_soft_targets),
        *draw(shape, scale=2.0),
    )


@pytest.mark.parametrize("divergence", ["reverse_kl", "jensen_shannon"])
@pytest.mark.parametrize("function", [soft_targets, binary_soft_targets])
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_every_divergence_is_finite_at_saturated_logits(function, divergence, size):
    teacher = np.float32([[size, -size, 0.0], [size, -size, 0.0], [0.0, 0.0, 0.0]])
    student = tf.Variable(np.float32([[-size, size, 0.0], [size, -size, 0.0], [size, -size, 0.0]]))
    with tf.GradientTape() as tape:
        value = function(teacher, student, 1.0, divergence)
    assert np.isfinite(value).all() and float(value[1]) == 0.0
    assert np.isfinite(tape.gradient(value, student).numpy()).all()
    if divergence == "jensen_shannon":
        assert float(tf.reduce_max(value)) <= np.log(2) + 1e-6
    elif function is soft_targets:
        np.testing.assert_allclose(value[0], 2 * size, rtol=1e-6)


def test_reverse_kl_swaps_the_models_and_jensen_shannon_is_symmetric():
    teacher, student = draw((5, 6)).astype("float64")
    for function in (soft_targets, binary_soft_targets):
        np.testing.assert_allclose(function(teacher, student, 2.0, "reverse_kl"), function(student, teacher, 2.0, "kl"))
        np.testing.assert_allclose(
            function(teacher, student, 2.0, "jensen_shannon"), function(student, teacher, 2.0, "jensen_shannon")
        )


def test_an_unknown_divergence_is_refused():
    with pytest.raises(ConfigurationError, match="'js'.*'kl', 'reverse_kl', 'jensen_shannon'"):
        SoftTargets(divergence="js")
    with pytest.raises(ConfigurationError, match="'js'"):
        soft_targets(*draw((2, 3)), 1.0, "js")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_dense_outputs_are_averaged_over_the_positions_of_each_example(activation, divergence):
    teacher, student = draw((2, 3, 2, 4), scale=2.0)
    loss = SoftTargets(temperature=2.0, activation=activation, divergence=divergence)
    value = loss(teacher, student, sample_weight=np.float32([1, 3]))
    each = expected_divergence(divergence, 2.0, activation == "sigmoid")(teacher, student)
    assert float(value) == pytest.approx((each[0].mean() + 3 * each[1].mean()) / 2, rel=1e-4)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_masked_tokens_are_excluded(activation, divergence):
    teacher, student = draw((3, 4, 5), scale=2.0)
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    masked = keras.ops.convert_to_tensor(student)
    masked._keras_mask = keras.ops.convert_to_tensor(mask)
    loss = SoftTargets(temperature=2.0, activation=activation, divergence=divergence)
    each = expected_divergence(divergence, 2.0, activation == "sigmoid")(teacher, student)
    expected = (each[0][mask[0]].mean() + each[1][0] + 0.0) / 3  # a row that is all padding gives 0
    assert float(loss(teacher, masked)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_config_keeps_the_divergence(divergence):
    again = deserialize(serialize(SoftTargets(divergence=divergence, activation="sigmoid")))
    assert (again.divergence, again.activation) == (divergence, "sigmoid")
    teacher, student = draw((3, 4), scale=2.0)
    value = again(teacher, student, context=Context(temperature=3.0))
    assert float(value) == pytest.approx(expected_divergence(divergence, 3.0, True)(teacher, student).mean(), rel=1e-4)


def test_jensen_shannon_has_its_gradient_near_the_teacher():
    """Near the teacher, where log-probabilities tie in float32, the gradient equals that in float64."""
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(16, 200))
    student = teacher + 0.01 * rng.normal(size=teacher.shape)

    def gradient(dtype):
        variable = tf.Variable(student.astype(dtype))
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(soft_targets(teacher.astype(dtype), variable, 4.0, "jensen_shannon"))
        return tape.gradient(value, variable).numpy().astype("float64")

    exact = np.exp(teacher / 4) / np.exp(teacher / 4).sum(-1, keepdims=True)
    of_student = np.exp(student / 4) / np.exp(student / 4).sum(-1, keepdims=True)
    log_ratio = np.log(of_student / ((exact + of_student) / 2))
    expected = 2.0 * of_student * (log_ratio - (of_student * log_ratio).sum(-1, keepdims=True))  # T / 2 q (r - E r)
    for dtype in ("float64", "float32"):
        found = gradient(dtype)
        assert (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected) > 0.99
