"""Self-supervised distillation against float64 NumPy written from the paper and the published selection."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.self_supervised import SelfSupervisedKD, contrastive_prediction, self_supervised_kd
from keras_kd.serialization import deserialize, serialize


def unit(rows):
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def similarities(views):
    """`[transformed views of all examples, examples]`, three rows per example as in the published code."""
    transformed = unit(views[:, 1:].reshape(-1, views.shape[-1]))
    return transformed @ unit(views[:, 0]).T


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def selection(scores, keep_wrong):
    """The rows to match: all that are right, and of the wrong ones those with the right image ranked best."""
    num_views = len(scores) // scores.shape[1]
    images = np.repeat(np.arange(scores.shape[1]), num_views)
    right = scores[np.arange(len(scores)), images]
    rank = (scores > right[:, None]).sum(1)
    probability = softmax(scores / 0.5)[np.arange(len(scores)), images]
    order = np.lexsort((-probability, rank))
    num_wrong = int((rank > 0).sum())
    return order[: len(scores) - num_wrong + int(num_wrong * keep_wrong)]


def paper(teacher, student, temperature=0.5, keep_wrong=0.75):
    """The mean over the selected rows of `T^2 * KL`, and the same shared out over the examples."""
    scores = similarities(teacher)
    p, q = softmax(scores / temperature), softmax(similarities(student) / temperature)
    divergences = temperature**2 * np.sum(p * np.log(p / q), axis=1)
    rows = selection(scores, keep_wrong)
    kept = np.zeros(len(divergences))
    kept[rows] = divergences[rows]
    per_example = kept.reshape(len(teacher), -1).sum(1) * len(teacher) / max(len(rows), 1)
    return divergences[rows].mean() if len(rows) else 0.0, per_example


@pytest.mark.parametrize("keep_wrong", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_matches_the_formula(assert_matches_the_formula, batch, keep_wrong):
    def function(teacher, student):
        return self_supervised_kd(teacher, student, keep_wrong=keep_wrong)

    teacher, student = pair((batch, 4, 5), (batch, 4, 3))
    reference = lambda t, s: paper(t, s, keep_wrong=keep_wrong)[1]  # noqa: E731
    # rounding the teacher to half precision may change the selection
    assert_matches_the_formula(function, reference, teacher, student, half=batch < 7)


def test_the_mean_is_the_mean_over_the_selected_rows():
    teacher, student = pair((9, 4, 6), (9, 4, 6))
    assert np.mean(self_supervised_kd(teacher, student)) == pytest.approx(paper(teacher, student)[0])


def test_the_selection_has_right_and_wrong_rows():
    teacher, _ = pair((9, 4, 6), (9, 4, 6))
    scores = similarities(teacher)
    wrong = (scores.argmax(1) != np.repeat(np.arange(9), 3)).sum()
    assert 4 < wrong < 27 and len(selection(scores, 0.75)) == 27 - wrong + int(0.75 * wrong)


def test_contrastive_prediction_matches_the_formula(assert_matches_the_formula):
    def reference(_, views):
        log = np.log(softmax(similarities(views)))
        return -log[np.arange(len(log)), np.repeat(np.arange(len(views)), 3)].reshape(len(views), 3).mean(1)

    assert_matches_the_formula(lambda _, v: contrastive_prediction(v), reference, *pair((5, 4, 3), (5, 4, 3)))


@pytest.mark.parametrize(
    "function", [self_supervised_kd, lambda t, s, present=None: contrastive_prediction(s, present)]
)
def test_absent_rows_equal_removed_rows(function):
    teacher, student = pair((6, 4, 5), (6, 4, 5))
    keep = np.array([True, False, True, True, False, True])
    values = keras.ops.convert_to_numpy(function(teacher, student, present=keep))
    np.testing.assert_allclose(values[keep], function(teacher[keep], student[keep]))
    np.testing.assert_array_equal(values[~keep], 0.0)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_equal_and_zero_features_are_finite(size):
    teacher = np.float32(size) * np.ones((4, 4, 3), "float32")
    student = tf.Variable(teacher)
    with tf.GradientTape() as tape:
        value = self_supervised_kd(teacher, student) + contrastive_prediction(student)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()


def test_each_head_is_trained_by_its_own_term():
    teacher, student = (x.astype("float32") for x in pair((6, 4, 5), (6, 4, 3)))
    loss = SelfSupervisedKD()
    loss.build((None, 4, 5), (None, 4, 3))
    teacher, student = tf.Variable(teacher), tf.Variable(student)
    weights = [weight.value for weight in loss.trainable_weights]
    with tf.GradientTape(persistent=True) as tape:
        value = loss(teacher, student)
        features = tf.maximum(tf.reshape(teacher, (-1, 5)) @ weights[0] + weights[1], 0) @ weights[2] + weights[3]
        own = tf.reduce_mean(contrastive_prediction(tf.reshape(features, (-1, 4, 5))))
    for found, alone in zip(tape.gradient(value, weights[:4]), tape.gradient(own, weights[:4]), strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-7)
    assert all(np.abs(slope).max() > 0 for slope in tape.gradient(value, [student, *weights[4:]]))


def test_a_trained_head_of_the_teacher_stays_fixed():
    teacher, student = (x.astype("float32") for x in pair((6, 4, 5), (6, 4, 3)))
    head = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7, activation="tanh"), keras.layers.Dense(2)])
    loss = SelfSupervisedKD(teacher_head=head)
    value = float(loss(teacher, student, context=Context()))
    assert len(loss.trainable_weights) == 4 and head.trainable
    views = np.asarray(head(teacher.reshape(-1, 5))).reshape(6, 4, 2).astype("float64")
    first, bias, second, other = (np.asarray(weight, "float64") for weight in loss.trainable_weights)
    mine = np.maximum(student @ first + bias, 0) @ second + other
    assert value == pytest.approx(paper(views, mine)[0], rel=1e-3)
    again = deserialize(serialize(loss))
    assert np.isnan(float(again(teacher, student)))  # until the weights are loaded
    again.set_weights(loss.get_weights())
    assert float(again(teacher, student)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfSupervisedKD(temperature=0), "temperature"),
        (lambda: SelfSupervisedKD(keep_wrong=1.5), "keep_wrong"),
        (lambda: SelfSupervisedKD(teacher_head=keras.layers.Dense(3)), "'teacher_head'.*never called"),
        (lambda: SelfSupervisedKD(teacher_head="dense"), "'teacher_head'.*a str"),
        (lambda: SelfSupervisedKD().build((None, 5), (None, 5)), "views of the same images.*with_rotations"),
        (lambda: SelfSupervisedKD().build((None, 4, 5), (None, 3, 5)), "same number of views"),
        (lambda: SelfSupervisedKD().build((None, 1, 5), (None, 1, 5)), "at least 2"),
    ],
)
def test_bad_use_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
