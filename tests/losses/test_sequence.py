"""Word-level and sequence-level distillation against float64 NumPy written from the paper, word by word."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, soft_targets
from keras_kd.losses.sequence import SequenceLevel, TokenLevel, sequence_level, token_level
from keras_kd.serialization import deserialize, serialize

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


def expected_words(temperature=1.0, mask=None):
    def reference(teacher, student):
        values = np.zeros(len(teacher))
        for row, position in np.ndindex(teacher.shape[:2]):
            if mask is None or mask[row][position]:
                p = softmax(teacher[row, position] / temperature)
                log_q = log_softmax(student[row, position] / temperature)
                count = teacher.shape[1] if mask is None else mask[row].sum()
                values[row] -= temperature**2 * sum(a * b for a, b in zip(p, log_q, strict=True)) / count
        return values

    return reference


def expected_sequence(tokens, student, mask):
    values = np.zeros(len(student))
    for row, position in np.ndindex(student.shape[:2]):
        if mask[row][position]:
            values[row] -= log_softmax(student[row, position])[tokens[row][position]] / mask[row].sum()
    return values


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)) * 2


def with_mask(student, mask):
    student = tf.convert_to_tensor(student.astype("float32"))
    student._keras_mask = tf.convert_to_tensor(mask)
    return student


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("shape", "mask"), [((1, 1, 3), None), ((2, 3, 4), None), ((3, 4, 5), MASK)])
def test_token_level_matches_the_formula(assert_matches_the_formula, shape, mask, temperature):
    assert_matches_the_formula(
        lambda t, s: token_level(t, s, temperature, mask=mask), expected_words(temperature, mask), *draw(*shape)
    )


def test_token_level_has_the_gradient_of_soft_targets():
    teacher, student = draw(2, 3, 4)
    variable = tf.Variable(student)
    with tf.GradientTape(persistent=True) as tape:
        values = token_level(teacher, variable, 3.0), tf.reduce_mean(soft_targets(teacher, variable, 3.0), -1)
    np.testing.assert_allclose(*(tape.gradient(value, variable) for value in values), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("shape", "mask"), [((1, 1, 3), None), ((2, 3, 4), None), ((3, 4, 5), MASK)])
@pytest.mark.parametrize("gives_ids", [True, False])
def test_sequence_level_matches_the_formula(assert_matches_the_formula, shape, mask, gives_ids):
    teacher, student = draw(*shape)
    every = np.ones(shape[:2], bool) if mask is None else mask
    tokens = np.array([[int(np.argmax(word)) for word in row] for row in teacher])
    assert_matches_the_formula(
        lambda t, s: sequence_level(tokens if gives_ids else t, s, mask=mask),
        lambda t, s: expected_sequence(tokens, s, every),
        teacher,
        student,
        half=False,
    )
    value = sequence_level(tokens, student.astype("float16"), mask)
    assert value.dtype == "float32"
    expected = expected_sequence(tokens, student.astype("float16").astype("float64"), every)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_negative_ids_are_padding():
    _, student = draw(3, 4, 5)
    tokens = np.random.default_rng(0).integers(0, 5, (3, 4))
    value = sequence_level(np.where(MASK, tokens, -100), student)
    np.testing.assert_allclose(value, expected_sequence(tokens, student, MASK), rtol=1e-7)


@pytest.mark.parametrize("size", [60.0, 1e4])
def test_saturated_logits_are_finite(size):
    teacher = np.float32([[[size, -size, 0.0]]])
    for function, value_there in ((token_level, 2 * size), (sequence_level, 2 * size)):
        student = tf.Variable(-teacher)
        with tf.GradientTape() as tape:
            value = function(teacher, student)
        assert float(value[0]) == pytest.approx(value_there, rel=1e-6)
        assert np.isfinite(tape.gradient(value, student).numpy()).all()


@pytest.mark.parametrize("loss", [TokenLevel(temperature=2.0), SequenceLevel()])
def test_the_students_mask_is_respected(loss):
    teacher, student = draw(3, 4, 5)
    value = loss(teacher, with_mask(student, MASK))
    function = expected_words(2.0, MASK)
    each = function(teacher, student) if isinstance(loss, TokenLevel) else None
    if each is None:
        each = expected_sequence(teacher.argmax(-1), student, MASK)
    assert float(value) == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.parametrize("form", ["ids", "column", "one_hot"])
def test_positions_labeled_as_padding_are_excluded(form):
    teacher, student = draw(3, 4, 5)
    labels = np.where(MASK, 3, 0)
    context = Context(labels={"ids": labels, "column": labels[..., None], "one_hot": np.eye(5)[labels]}[form])
    value = TokenLevel(temperature=2.0, padding=0)(teacher, student, context=context)
    assert float(value) == pytest.approx(expected_words(2.0, MASK)(teacher, student).mean(), rel=1e-5)
    value = SequenceLevel(padding=0)(teacher, student, context=context)
    expected = expected_sequence(teacher.argmax(-1), student, MASK).mean()
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_without_labels_padding_follows_the_teachers_tokens():
    teacher, student = draw(3, 4, 5)
    teacher[..., 0] = np.where(MASK, -50, 50)
    value = TokenLevel(padding=0)(teacher, student)
    assert float(value) == pytest.approx(expected_words(1.0, MASK)(teacher, student).mean(), rel=1e-5)
    value = SequenceLevel(padding=0)(teacher, student)
    assert float(value) == pytest.approx(expected_sequence(teacher.argmax(-1), student, MASK).mean(), rel=1e-5)


def test_padding_of_a_decoded_sequence_is_read_from_its_ids():
    _, student = draw(3, 4, 5)
    tokens = np.where(MASK, 2, 0)
    context = Context(labels=np.full((3, 4), 4))  # of a different length than the teacher's sequence
    value = SequenceLevel(padding=0)(tokens, student, context=context)
    assert float(value) == pytest.approx(expected_sequence(tokens, student, MASK).mean(), rel=1e-5)


def test_mask_padding_and_weights_per_token_together():
    teacher, student = draw(2, 4, 5)
    mask, labels = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool), np.array([[0, 3, 3, 3], [3, 3, 3, 0]])
    included = mask & (labels != 0)
    weights = np.float32([[1, 2, 0, 1], [0.5, 1, 1, 1]])
    loss = TokenLevel(padding=0)
    value = loss(teacher, with_mask(student, mask), sample_weight=weights, context=Context(labels=labels))
    words = -(softmax(teacher, -1) * log_softmax(student, -1)).sum(-1)
    expected = (words * included * weights).sum(1) / included.sum(1)
    assert float(value) == pytest.approx(expected.mean(), rel=1e-5)


def test_an_example_of_weight_0_is_excluded():
    teacher, student = draw(3, 4, 5)
    value = TokenLevel(reduction="sum")(teacher, student, sample_weight=np.float32([1, 0, 1]))
    assert float(value) == pytest.approx(expected_words()(teacher, student)[[0, 2]].sum(), rel=1e-5)


def test_works_in_a_graph_without_sizes():
    teacher, student = draw(3, 4, 5)
    losses = [TokenLevel(padding=0), SequenceLevel(padding=0)]

    @tf.function(input_signature=[tf.TensorSpec((None, None, 5), "float32")] * 2 + [tf.TensorSpec((None, None))])
    def step(teacher, student, labels):
        return [loss(teacher, student, context=Context(labels=labels)) for loss in losses]

    labels = np.where(MASK, 3, 0)
    values = step(teacher.astype("float32"), student.astype("float32"), labels.astype("float32"))
    assert float(values[0]) == pytest.approx(expected_words(1.0, MASK)(teacher, student).mean(), rel=1e-5)
    assert float(values[1]) == pytest.approx(expected_sequence(teacher.argmax(-1), student, MASK).mean(), rel=1e-5)


def test_labels_that_are_not_one_per_token_are_refused():
    teacher, student = draw(3, 4, 5)
    with pytest.raises(ConfigurationError, match=r"not one per token.*\(3,\).*mask_zero"):
        TokenLevel(padding=0)(teacher, student, context=Context(labels=np.zeros(3)))


@pytest.mark.parametrize(
    ("loss", "teacher", "student"),
    [
        (TokenLevel(), (2, 5), (2, 5)),
        (TokenLevel(), (2, 4), (2, 4, 5)),
        (TokenLevel(), (2, 4, 6), (2, 4, 5)),
        (TokenLevel(), (2, 3, 5), (2, 4, 5)),
        (SequenceLevel(), (2, 3), (2, 4, 5)),
        (SequenceLevel(), (2, 4, 6), (2, 4, 5)),
        (SequenceLevel(), (2, 5), (2, 5)),
    ],
)
def test_incompatible_shapes_are_refused(loss, teacher, student):
    with pytest.raises(ConfigurationError, match="teacher.*student"):
        loss.validate_outputs(np.zeros(teacher), np.zeros(student))


def test_unknown_lengths_are_accepted():
    shapes = [tf.TensorSpec((None, None, 5)), tf.TensorSpec((None, 4, 5))]
    TokenLevel().validate_outputs(*shapes)
    SequenceLevel().validate_outputs(*shapes)
    SequenceLevel().validate_outputs(tf.TensorSpec((None, 4)), shapes[1])


@pytest.mark.parametrize("padding", ["0", 1.5, True])
def test_an_invalid_padding_id_is_refused(padding):
    for cls in (TokenLevel, SequenceLevel):
        with pytest.raises(ConfigurationError, match="padding"):
            cls(padding=padding)


@pytest.mark.parametrize(
    "loss", [TokenLevel(schedules.Linear(4.0, 1.0, steps=10), padding=0, student="b"), SequenceLevel(padding=0)]
)
def test_config_round_trip(loss):
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss) and again.name == loss.name and again.padding == 0
    teacher, student = draw(3, 4, 5)
    context = Context(step=3, labels=np.where(MASK, 3, 0))
    assert float(again(teacher, student, context=context)) == float(loss(teacher, student, context=context)) > 0
