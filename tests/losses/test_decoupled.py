"""Decoupled knowledge distillation against float64 NumPy written from the paper."""

import numpy as np
import pytest
import tensorflow as tf

from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, soft_targets
from keras_kd.losses.decoupled import DecoupledKD, decoupled_kd
from keras_kd.serialization import deserialize, serialize


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def expected(labels, temperature, target_weight=1.0, nontarget_weight=8.0):
    def reference(teacher, student):
        values = np.zeros(len(teacher))
        for row, label in enumerate(labels):
            p, q = softmax(teacher[row] / temperature), softmax(student[row] / temperature)
            p_rest, q_rest = np.delete(p, label).sum(), np.delete(q, label).sum()
            target = p[label] * np.log(p[label] / q[label]) + p_rest * np.log(p_rest / q_rest)
            nontarget = 0.0
            for other in range(len(p)):
                if other != label:
                    p_hat, q_hat = p[other] / p_rest, q[other] / q_rest
                    nontarget += p_hat * np.log(p_hat / q_hat)
            values[row] = temperature**2 * (target_weight * target + nontarget_weight * nontarget)
        return values

    return reference


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)) * 2


@pytest.mark.parametrize("weights", [(1.0, 8.0), (2.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize(("shape", "temperature"), [((1, 3), 4.0), ((4, 6), 1.0), ((3, 2), 2.0)])
def test_matches_the_formula(assert_matches_the_formula, shape, temperature, weights):
    labels = np.array([1, 0, 1, 1])[: shape[0]]
    assert_matches_the_formula(
        lambda t, s: decoupled_kd(t, s, labels, temperature, *weights),
        expected(labels, temperature, *weights),
        *draw(*shape),
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_parts_make_up_soft_targets(temperature):
    teacher, student = draw(5, 6)
    labels = np.array([0, 1, 2, 3, 5])
    target = np.asarray(decoupled_kd(teacher, student, labels, temperature, 1.0, 0.0))
    nontarget = np.asarray(decoupled_kd(teacher, student, labels, temperature, 0.0, 1.0))
    doubt = np.array([1 - softmax(t / temperature)[label] for t, label in zip(teacher, labels, strict=True)])
    np.testing.assert_allclose(target + doubt * nontarget, soft_targets(teacher, student, temperature), rtol=1e-6)


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize(
    ("label", "target", "nontarget"),
    [
        (0, 2, 1),  # log q of the target is -2 size; of the others the teacher is sure of the last, log q_hat -size
        (1, 1, 1),  # log of 1 - q is -size; of the others the teacher is sure of the first, log q_hat -size
        (2, 0, 2),  # both hold it impossible; of the others the teacher is sure of the first, log q_hat -2 size
    ],
)
def test_saturated_logits_have_the_right_value_and_finite_gradients(size, label, target, nontarget):
    teacher, student = np.float32([[size, -size, 0.0]]), tf.Variable(np.float32([[-size, size, 0.0]]))
    with tf.GradientTape() as tape:
        value = decoupled_kd(teacher, student, [label], 1.0)
    assert float(value[0]) == pytest.approx((target + 8 * nontarget) * size, rel=1e-5)
    assert np.isfinite(tape.gradient(value, student).numpy()).all()


def test_the_target_leaves_no_trace_among_the_others_however_likely_it_is():
    """The published code subtracts 1000 from it."""
    teacher, student = draw(2, 4)
    sure, unsure = teacher.copy(), student.copy()
    sure[:, 1], unsure[:, 1] = 1e4, 5e3
    labels = [1, 1]
    np.testing.assert_allclose(
        decoupled_kd(sure, unsure, labels, 1.0, 0.0, 1.0), decoupled_kd(teacher, student, labels, 1.0, 0.0, 1.0)
    )


def test_labels_in_any_form_give_one_value():
    teacher, student = draw(3, 4)
    labels = np.array([2, 0, 3])
    value = decoupled_kd(teacher, student, labels, 4.0)
    for form in (labels[:, None], np.eye(4, dtype="float32")[labels], labels.astype("float32")):
        np.testing.assert_array_equal(decoupled_kd(teacher, student, form, 4.0), value)


def test_a_row_without_a_label_takes_the_teachers_answer():
    teacher, student = draw(3, 4)
    filled = np.array([2, teacher[1].argmax(), 3])
    np.testing.assert_array_equal(
        decoupled_kd(teacher, student, [2, -1, 3], 4.0), decoupled_kd(teacher, student, filled, 4.0)
    )


def test_dense_outputs_have_a_value_per_position():
    teacher, student = draw(2, 3, 2, 4)
    labels = np.random.default_rng(0).integers(0, 4, (2, 3, 2))
    value = decoupled_kd(teacher, student, labels, 2.0)
    flat = expected(labels.ravel(), 2.0)(teacher.reshape(-1, 4), student.reshape(-1, 4))
    np.testing.assert_allclose(value, flat.reshape(2, 3, 2), rtol=1e-7)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (5, 0.25), (20, 1.0), (900, 1.0)])
def test_the_loss_warms_up(step, share):
    teacher, student = draw(3, 4)
    loss = DecoupledKD(temperature=4.0, warmup_steps=20)
    value = float(loss(teacher, student, context=Context(labels=[0, 1, 2], step=tf.constant(step))))
    assert value == pytest.approx(share * expected([0, 1, 2], 4.0)(teacher, student).mean(), rel=1e-5)


def test_works_in_a_graph_without_a_batch_size():
    teacher, student = draw(3, 4)
    loss = DecoupledKD(warmup_steps=4)
    spec = tf.TensorSpec((None, 4), "float32")

    @tf.function(input_signature=[spec, spec, tf.TensorSpec((None,), "int64")])
    def step(teacher, student, labels):
        return loss(teacher, student, context=Context(labels=labels, step=8))

    value = step(teacher.astype("float32"), student.astype("float32"), np.array([0, 1, 2]))
    assert float(value) == pytest.approx(expected([0, 1, 2], 4.0)(teacher, student).mean(), rel=1e-5)


def test_without_labels_the_target_is_the_teacher_s_prediction():
    teacher, student = draw(3, 4)
    context = Context(labels=np.argmax(teacher, -1))
    assert float(DecoupledKD()(teacher, student)) == float(DecoupledKD()(teacher, student, context=context))


@pytest.mark.parametrize("settings", [{"target_weight": -1}, {"nontarget_weight": "8"}, {"warmup_steps": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigurationError):
        DecoupledKD(**settings)


def test_one_output_is_refused():
    with pytest.raises(ConfigurationError, match="always be 0"):
        DecoupledKD().validate_outputs(np.zeros((2, 1)), np.zeros((2, 1)))


def test_config_round_trip():
    loss = DecoupledKD(
        schedules.Linear(8.0, 1.0, steps=10), target_weight=2.0, nontarget_weight=4.0, warmup_steps=5, student="b"
    )
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss) and again.name == "decoupled_kd_b"
    teacher, student = draw(3, 4)
    context = Context(labels=[0, 1, 2], step=3)
    assert float(again(teacher, student, context=context)) == float(loss(teacher, student, context=context)) > 0
