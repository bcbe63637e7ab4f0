"""Contrastive distillation against float64 NumPy written from the paper's noise-contrastive estimation."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.contrastive import ContrastiveKD, contrastive_kd, noise_contrastive
from keras_kd.serialization import deserialize, serialize

TAU = 0.07


def one_direction(anchors, positives, negatives_of, mean_score, temperature=TAU, num_data=50000):
    """As published: probabilities with Z = num_data * mean score, noise 1 / num_data, m negatives, logs of ratios."""
    noise, values = 1 / num_data, []
    for anchor, positive, negatives in zip(anchors, positives, negatives_of, strict=True):
        m = len(negatives)
        p = np.exp(anchor @ positive / temperature) / (num_data * mean_score)
        value = -np.log(p / (p + m * noise))
        for negative in negatives:
            p = np.exp(anchor @ negative / temperature) / (num_data * mean_score)
            value -= np.log(m * noise / (p + m * noise))
        values.append(value)
    return np.array(values)


def mean_score_of_random_directions(size, temperature):
    """The cosine x of two random directions has a density proportional to (1 - x^2)^((size - 3) / 2)."""
    x = np.linspace(-1, 1, 200_001)
    density = (1 - x**2) ** ((size - 3) / 2)
    return (density * np.exp(x / temperature)).sum() / density.sum()


def expected(teacher, student, labels=None, extra_teacher=(), extra_student=(), extra_labels=(), temperature=TAU):
    """Both directions; negatives are the other rows of the batch (of other classes) and the additional ones."""
    mean_score = mean_score_of_random_directions(teacher.shape[-1], temperature)
    batch = len(teacher)
    labels = np.full(batch, -1) if labels is None else labels
    extra_labels = extra_labels if len(extra_labels) else np.full(len(extra_teacher), -1)

    def negatives(others, extra):
        return [
            [others[j] for j in range(batch) if j != i and (labels[i] != labels[j] or labels[i] == -1)]
            + [e for e, y in zip(extra, extra_labels, strict=True) if y != labels[i] or y == -1]
            for i in range(batch)
        ]

    by_student = one_direction(student, teacher, negatives(teacher, extra_teacher), mean_score, temperature)
    by_teacher = one_direction(teacher, student, negatives(student, extra_student), mean_score, temperature)
    return by_student + by_teacher


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_matches_the_formula_with_in_batch_negatives(batch):
    teacher, student = unit(2, batch, 8)
    np.testing.assert_allclose(contrastive_kd(teacher, student), expected(teacher, student), rtol=1e-7)
    single = contrastive_kd(teacher.astype("float32"), student.astype("float16"))
    assert "float32" in str(single.dtype)
    np.testing.assert_allclose(single, expected(teacher, student), rtol=1e-2)


LABELS, EXTRA_LABELS = np.array([0, 1, 0, -1, -1]), np.array([1, 0, -1, 2])


def test_matches_the_formula_with_labels_and_additional_negatives():
    """A row labeled -1 has all other rows as its negatives."""
    teacher, student = unit(2, 5, 8)
    more = unit(2, 4, 8, seed=1)
    ours = contrastive_kd(
        teacher,
        student,
        labels=LABELS,
        teacher_negatives=more[0],
        student_negatives=more[1],
        negative_labels=EXTRA_LABELS,
        temperature=0.2,
    )
    reference = expected(teacher, student, LABELS, *more, EXTRA_LABELS, temperature=0.2)
    np.testing.assert_allclose(ours, reference, rtol=1e-7)


def test_absent_additional_negatives_are_excluded():
    teacher, student = unit(2, 3, 8)
    more, keep = unit(2, 4, 8, seed=1), np.array([True, False, True, False])
    ours = contrastive_kd(
        teacher, student, teacher_negatives=more[0], student_negatives=more[1], negatives_present=keep
    )
    reference = expected(teacher, student, extra_teacher=more[0][keep], extra_student=more[1][keep])
    np.testing.assert_allclose(ours, reference, rtol=1e-7)


@pytest.mark.parametrize("batch", [1, 4])
def test_one_direction_and_its_gradient(assert_matches_the_formula, batch):
    """The student is the anchor, the candidates are the teacher and two more; the second anchor has no negatives."""
    teacher, student = unit(batch + 2, 6), unit(batch, 6, seed=1)
    negatives = np.ones((batch, batch + 2)) - np.eye(batch, batch + 2)
    negatives[1:2] = 0

    def function(teacher, student):
        mask = negatives.astype("float64" if student.dtype == "float64" else "float32")
        teacher = keras.ops.cast(teacher, mask.dtype)
        return noise_contrastive(student, teacher, mask, temperature=0.5, log_mean_score=np.log(3.0))

    def reference(teacher, student):
        rows = [teacher[np.flatnonzero(row)] for row in negatives]
        values = one_direction(student, teacher[:batch], rows, 3.0, temperature=0.5)
        return np.where(negatives.sum(-1) > 0, values, 0.0)

    # the fixture varies the student's rows; the candidates are fixed
    assert_matches_the_formula(
        lambda _, s: function(teacher, s), lambda _, s: reference(teacher, s), student, student, half=False
    )


def test_candidates_get_no_gradient():
    teacher, student, more = map(tf.constant, (*unit(2, 3, 8), unit(4, 8, seed=1)))
    with tf.GradientTape() as tape:
        tape.watch([teacher, student, more])
        value = tf.reduce_sum(contrastive_kd(teacher, student, teacher_negatives=more, student_negatives=more))
    of_teacher, of_student, of_more = tape.gradient(value, [teacher, student, more])
    with tf.GradientTape() as tape:
        tape.watch(student)
        mask = tf.ones((3, 7), "float64") - tf.eye(3, 7, dtype="float64")
        only = noise_contrastive(
            student,
            tf.concat([teacher, more], 0),
            mask,
            temperature=TAU,
            log_mean_score=np.log(mean_score_of_random_directions(8, TAU)),
        )
    np.testing.assert_allclose(of_student, tape.gradient(only, student))
    assert of_more is None and np.abs(of_teacher).max() > 0


def test_absent_rows_equal_removed_rows():
    teacher, student = unit(2, 5, 8)
    keep = np.array([True, False, True, True, False])
    values = keras.ops.convert_to_numpy(contrastive_kd(teacher, student, labels=LABELS, present=keep))
    np.testing.assert_allclose(values[keep], expected(teacher[keep], student[keep], LABELS[keep]), rtol=1e-7)
    np.testing.assert_array_equal(values[~keep], 0)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_extreme_embeddings_are_finite(size):
    student = tf.Variable(np.float32([[size, -size], [size, -size], [-size, 0]]))
    with tf.GradientTape() as tape:
        values = contrastive_kd(-student.numpy(), student)
    assert np.isfinite(values).all() and np.isfinite(tape.gradient(values, student)).all()


# The class.


def embedded(loss, teacher, student):
    """The embeddings of features, from the weights of the loss."""
    teacher_kernel, teacher_bias, student_kernel, student_bias = map(
        np.float64, map(np.asarray, loss.trainable_weights)
    )
    both = teacher @ teacher_kernel + teacher_bias, student @ student_kernel + student_bias
    return [vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) for vectors in both]


def features(batch, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, 4)).astype("float32"), rng.normal(size=(batch, 6)).astype("float32")


def test_embeds_flattened_features():
    teacher, student = features(3)
    loss = ContrastiveKD(embedding_size=8)
    value = float(loss(teacher.reshape(3, 2, 2, 1), student.reshape(3, 3, 2)))
    assert value == pytest.approx(expected(*embedded(loss, teacher, student)).mean(), rel=1e-4)


@pytest.mark.parametrize("labels", [np.array([1, 0, 1]), np.array([[1], [0], [1]]), np.eye(2)[[1, 0, 1]]])
def test_accepts_all_label_formats(labels):
    teacher, student = features(3)
    loss = ContrastiveKD(embedding_size=8)
    value = float(loss(teacher, student, context=Context(labels=labels)))
    embeddings = embedded(loss, teacher, student)
    assert value == pytest.approx(expected(*embeddings, np.array([1, 0, 1])).mean(), rel=1e-4)
    loss.use_labels = False
    value = float(loss(teacher, student, context=Context(labels=labels)))
    assert value == pytest.approx(expected(*embeddings).mean(), rel=1e-4)


def test_labels_without_a_class_per_example_are_refused():
    with pytest.raises(ConfigurationError, match="use_labels=False"):
        ContrastiveKD()(*features(2), context=Context(labels=np.zeros((2, 3, 3))))


def test_the_memory_contains_the_last_present_rows():
    loss = ContrastiveKD(embedding_size=8, memory_size=4)
    first, second, third = features(2, seed=1), features(3, seed=2), features(2, seed=3)
    loss(*first, context=Context(labels=np.array([0, 1])))
    loss(*second, context=Context(labels=np.array([1, 2, 0])), sample_weight=np.float32([1, 0, 1]))
    embeddings = [embedded(loss, *batch) for batch in (first, second, third)]
    # newest first: rows 0 and 2 of the second batch and all of the first; row 1 of the second was not stored
    remembered = [np.stack([*embeddings[1][k][[0, 2]], *embeddings[0][k]]) for k in (0, 1)]
    labels = np.array([1, 2])
    value = float(loss(*third, context=Context(labels=labels, training=False)))
    reference = expected(*embeddings[2], labels, *remembered, np.array([1, 0, 0, 1]))
    assert value == pytest.approx(reference.mean(), rel=1e-4)


def test_the_memory_does_not_change_outside_training():
    loss = ContrastiveKD(embedding_size=8, memory_size=4)
    loss(*features(2), context=Context(training=False))
    assert not any(np.any(weight) for weight in loss.non_trainable_weights)
    loss(*features(2), context=Context(training=True))
    assert len(loss.non_trainable_weights) == 4
    np.testing.assert_array_equal(loss.non_trainable_weights[-1], [1, 1, 0, 0])


def test_a_batch_larger_than_the_memory():
    loss = ContrastiveKD(embedding_size=8, memory_size=2)
    teacher, student = features(5)
    loss(teacher, student)
    np.testing.assert_allclose(loss.non_trainable_weights[0], embedded(loss, teacher, student)[0][:2], rtol=1e-4)


def test_one_graph_for_any_batch_with_its_memory():
    loss, eager = (ContrastiveKD(embedding_size=8, memory_size=4) for _ in range(2))
    for each in (loss, eager):
        each.build((None, 4), (None, 6))
    eager.set_weights(loss.get_weights())
    compiled = tf.function(
        lambda t, s, y: loss(t, s, context=Context(labels=y)),
        input_signature=[tf.TensorSpec((None, 4)), tf.TensorSpec((None, 6)), tf.TensorSpec((None,), "int64")],
    )
    for batch in (1, 3, 2):
        labels = np.arange(batch)
        value = float(eager(*features(batch, seed=batch), context=Context(labels=labels)))
        assert float(compiled(*features(batch, seed=batch), labels)) == pytest.approx(value, rel=1e-4)


def test_zero_features_have_small_gradients():
    """After a dead layer all features are 0, and with a bias of 0 so is their embedding."""
    loss = ContrastiveKD(embedding_size=8)
    teacher, student = features(3)
    student[1] = 0
    student = tf.Variable(student)
    loss.build((None, 4), (None, 6))
    loss._embed_student.bias.assign(np.zeros(8))
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    for gradient in tape.gradient(value, [student, *(weight.value for weight in loss.trainable_weights)]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1e3


def test_settings_round_trip():
    settings = {"embedding_size": 8, "temperature": 0.1, "memory_size": 16, "use_labels": False}
    again = deserialize(serialize(ContrastiveKD(student="b", **settings)))
    assert again.name == "contrastive_kd_b"
    assert settings.items() <= again.get_config().items()


@pytest.mark.parametrize("setting", [{"embedding_size": 0}, {"memory_size": 1.5}, {"temperature": 0}])
def test_invalid_settings_are_refused(setting):
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        ContrastiveKD(**setting)


def test_features_of_an_unknown_size_are_refused():
    shaped = [types.SimpleNamespace(shape=shape) for shape in ((None, 4), (None, None, None, 3))]
    with pytest.raises(ConfigurationError, match="known size"):
        ContrastiveKD().validate_outputs(*shaped)
    ContrastiveKD().validate_outputs(shaped[0], shaped[0])


def test_an_all_zero_one_hot_row_is_unlabeled():
    numbers = ContrastiveKD()._class_indices(np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    assert list(np.asarray(numbers)) == [1, -1, 0]
