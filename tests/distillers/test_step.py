"""One step of the Distiller against a handwritten one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

import keras_kd as kd

LEARNING_RATE = 0.1


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def linear_student(num_classes=10, **settings):
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(num_classes, **settings)])


@pytest.mark.parametrize(("alpha", "temperature"), [(0.0, 4.0), (0.3, 4.0), (0.9, 1.0), (1.0, 20.0)])
def test_a_linear_student_moves_as_numpy_says(digits, alpha, temperature):
    """In float64 NumPy: d loss / d logits = ((1 - alpha) (q_1 - onehot) + alpha T (q_T - p_T)) / batch."""
    x, y = digits[0][:32].reshape(32, 64), digits[1][:32]
    teacher, student = linear_student(), linear_student()
    kernel, bias = (np.asarray(w, "float64") for w in student.get_weights())
    z, v = x.astype("float64") @ kernel + bias, teacher.predict(x, verbose=0).astype("float64")
    onehot = np.eye(10)[y]
    q, p = softmax(z / temperature, -1), softmax(v / temperature, -1)
    d_logits = ((1 - alpha) * (softmax(z, -1) - onehot) + alpha * temperature * (q - p)) / 32
    divergence = (p * (log_softmax(v / temperature, -1) - log_softmax(z / temperature, -1))).sum(-1)
    cross_entropy = -(onehot * log_softmax(z, -1)).sum(-1).mean()
    soft = temperature**2 * divergence.mean()

    distiller = kd.Distiller(teacher, student, alpha=alpha, temperature=temperature)
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE), loss=from_logits())
    logs = distiller.train_on_batch(x, y, return_dict=True)

    np.testing.assert_allclose(student.get_weights()[0], kernel - LEARNING_RATE * x.T @ d_logits, atol=1e-6)
    np.testing.assert_allclose(student.get_weights()[1], bias - LEARNING_RATE * d_logits.sum(0), atol=1e-6)
    assert logs["student_loss"] == pytest.approx(cross_entropy, rel=1e-5)
    assert logs["distillation_loss"] == logs["soft_targets"] == pytest.approx(soft, rel=5e-5)
    assert logs["loss"] == pytest.approx((1 - alpha) * cross_entropy + alpha * soft, rel=5e-5)
    assert logs["alpha"] == pytest.approx(alpha)


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_a_network_moves_as_a_tape_by_hand_says(digits, make_model, eagerly, jit):
    if eagerly and jit:
        pytest.skip("Keras does not compile an eager step")
    x, y, weight = digits[0][:16], digits[1][:16], np.linspace(0.5, 2, 16).astype("float32")
    teacher = make_model(8, norm=True)
    regularizer = keras.regularizers.L2(0.01)
    student = make_model(4, norm=True, kernel_regularizer=regularizer)
    by_hand = keras.models.clone_model(student)
    by_hand.set_weights(student.get_weights())

    with tf.GradientTape() as tape:
        z = by_hand(x, training=True)
        v = teacher(x, training=False)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(y, z)
        p = tf.nn.softmax(v / 3.0)
        soft = 9.0 * tf.reduce_sum(p * (tf.math.log(p) - tf.nn.log_softmax(z / 3.0)), -1)
        loss = tf.reduce_mean(weight * (0.4 * cross_entropy + 0.6 * soft)) + sum(by_hand.losses)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0, weight_decay=0.1)
    optimizer.apply(tape.gradient(loss, by_hand.trainable_variables), by_hand.trainable_variables)

    distiller = kd.Distiller(teacher, student, alpha=0.6, temperature=3.0)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0, weight_decay=0.1)
    distiller.compile(optimizer, loss=from_logits(), run_eagerly=eagerly, jit_compile=jit)
    logs = distiller.train_on_batch(x, y, sample_weight=weight, return_dict=True)

    assert logs["loss"] == pytest.approx(float(loss), rel=1e-5)
    for ours, theirs in zip(student.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 if not jit else 1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_without_labels_only_the_teacher_is_followed(digits, make_model, alpha):
    """A batch without labels is trained as with alpha 1, whatever alpha is."""
    x = digits[0][:16]
    teacher, student = make_model(8), make_model(4)
    labeled = keras.models.clone_model(student)
    labeled.set_weights(student.get_weights())
    runs = []
    for model, data, weight in ((student, (x,), alpha), (labeled, (x, digits[1][:16]), 1.0)):
        distiller = kd.Distiller(teacher, model, alpha=weight)
        distiller.compile(keras.optimizers.SGD(0.1), loss=from_logits())
        runs.append(distiller.train_on_batch(*data, return_dict=True))
    assert set(runs[0]) == {"loss", "distillation_loss", "soft_targets", "alpha"}
    assert runs[0]["loss"] == pytest.approx(runs[1]["loss"], rel=1e-6)
    for one, other in zip(student.get_weights(), labeled.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_the_student_runs_forward_once_and_the_teacher_once(digits, make_model):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x

    def model(name):
        return keras.Sequential([keras.Input((8, 8, 1)), Counting(name=name), make_model(4, activation="softmax")])

    teacher, student = model("teacher"), model("student")
    with pytest.warns(kd.errors.Notice):
        distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss="sparse_categorical_crossentropy", run_eagerly=True)
    calls.clear()
    distiller.fit(digits[0][:32], digits[1][:32], batch_size=8, verbose=0)
    assert (calls.count("teacher"), calls.count("student")) == (4, 4)


def test_batch_norm_statistics_are_those_of_plain_training(digits, make_model):
    x, y = digits[0][:64], digits[1][:64]
    plain = make_model(4, norm=True)
    student = keras.models.clone_model(plain)
    student.set_weights(plain.get_weights())
    plain.compile(keras.optimizers.SGD(0.05), loss=from_logits())
    plain.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    distiller = kd.Distiller(make_model(8, norm=True), student, alpha=0.0)
    distiller.compile(keras.optimizers.SGD(0.05), loss=from_logits())
    distiller.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(plain.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_teacher_is_left_as_it_was(digits, make_model):
    teacher = make_model(8, norm=True, dropout=0.5)
    teacher.layers[0].trainable = False
    before = [w.copy() for w in teacher.get_weights()]
    distiller = kd.Distiller(teacher, make_model(4))
    distiller.compile("adam", loss=from_logits())
    distiller.fit(digits[0][:64], digits[1][:64], epochs=2, verbose=0)
    assert teacher.trainable and not teacher.layers[0].trainable and teacher.layers[-1].trainable
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    owned = {id(variable) for variable in distiller.variables}
    assert not owned & {id(variable) for variable in teacher.variables}
    assert len(distiller.trainable_variables) == len(distiller.student.trainable_variables)
