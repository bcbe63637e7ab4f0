"""Properties of influence and of gradients, for every loss of `loss_table.py`.

Rows of weight 0 and padding influence neither the value, nor the gradients, nor the weights of the loss; and gradients
match central differences of the same loss in float64.
"""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from loss_table import ROWS, context, draw, each

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Weighted

BATCH = 6
WEIGHT = np.float32([1, 1, 0, 2, 0, 1])
COUNTS = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]], bool)
SHORTER = np.tile([True, True, True, False], (BATCH, 1))


def listed(tensors):
    return tensors if isinstance(tensors, list) else [tensors]


def garbage(tensors, keep, seed=9):
    """The tensors with large noise wherever `keep`, `[batch]` or `[batch, positions]`, is False."""

    def spoil(x):
        noise = 40 * np.random.default_rng(seed).normal(size=x.shape).astype(x.dtype)
        kept = keep.reshape(*keep.shape, *[1] * (x.ndim - keep.ndim))
        return np.where(kept, x, noise)

    return each(spoil, tensors)


def about(row, teacher, labels=None):
    labels = np.arange(BATCH) % 10 if row.labels and labels is None else labels
    return dataclasses.replace(
        context(row),
        training=True,
        labels=labels,
        teacher_logits=draw(row.teacher, seed=5) if teacher is None else teacher,
    )


def outcome(loss, row, teacher, student, *, mask=None, sample_weight=None, labels=None):
    """The value, the gradients of the student and of the loss's weights, and all weights of the loss afterwards."""
    variables = [tf.Variable(x) for x in listed(student)]
    with tf.GradientTape() as tape:
        tensors = [tf.convert_to_tensor(x) for x in variables]
        for tensor in tensors:
            if mask is not None:
                tensor._keras_mask = tf.constant(mask)
        settings = {"sample_weight": sample_weight, "context": about(row, listed(teacher)[0], labels)}
        result = loss(teacher, tensors if isinstance(student, list) else tensors[0], **settings)
    learned = [variable.value for variable in loss.trainable_variables]
    slopes = tape.gradient(result, [*variables, *learned], unconnected_gradients="zero")
    slopes = [np.asarray(tf.convert_to_tensor(slope)) for slope in slopes]
    return float(result), slopes[: len(variables)], slopes[len(variables) :], loss.get_weights()


@functools.cache
def made(name):
    """A loss after one batch, its weights, and the norm of its gradient at a generic point."""
    row = ROWS[name]
    loss = row.make()
    outcome(loss, row, draw(row.teacher, seed=7), draw(row.student, seed=8))
    start = loss.get_weights()
    slopes = outcome(loss, row, draw(row.teacher), draw(row.student, seed=1))[1]
    return loss, start, length_of(slopes)


@functools.cache
def made_in_float64(name):
    """The same loss with the same weights, computing in float64."""
    loss, start = ROWS[name].make(), made(name)[1]
    outcome(loss, ROWS[name], draw(ROWS[name].teacher), draw(ROWS[name].student))
    for layer in loss._flatten_layers(include_self=False):
        layer.dtype_policy = "float64"
    for weight, value in zip(loss.weights, start, strict=True):
        is_wide = weight.dtype == "float32"
        weight._value = tf.Variable(value.astype("float64") if is_wide else value)
        weight._dtype = "float64" if is_wide else weight.dtype
    return loss


def built(row):
    loss, start, _ = made(row.name)
    loss.set_weights(start)
    return loss


def length_of(slopes):
    return np.sqrt(sum(np.sum(np.square(slope, dtype="float64")) for slope in slopes))


def from_the_same_start(loss, row, *runs):
    """The outcome of each run, all starting from the same state of the loss."""
    start = loss.get_weights()
    for teacher, student, settings in runs:
        loss.set_weights(start)
        yield outcome(loss, row, teacher, student, **settings)


def assert_same(one, other):
    (value, slopes, learned, state), (value_2, slopes_2, learned_2, state_2) = one, other
    assert value == pytest.approx(value_2, rel=1e-5, abs=1e-6)
    for mine, theirs in zip([*slopes, *learned, *state], [*slopes_2, *learned_2, *state_2], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5 * max(np.abs(theirs).max(initial=0), 1e-3))


def test_a_row_of_weight_0_has_no_influence(row):
    loss, teacher, student = built(row), draw(row.teacher), draw(row.student, seed=1)
    keep = WEIGHT > 0
    other = np.where(keep, np.arange(BATCH), 7) if row.labels else None
    runs = [
        (teacher, student, {"sample_weight": WEIGHT}),
        (garbage(teacher, keep), garbage(student, keep), {"sample_weight": WEIGHT, "labels": other}),
    ]
    one, two = from_the_same_start(loss, row, *runs)
    assert_same(one, two)
    for slope in two[1]:
        np.testing.assert_array_equal(slope[~keep], 0.0 * slope[~keep])


def test_a_batch_of_weight_0_changes_nothing(row):
    loss = built(row)
    start = loss.get_weights()
    teacher, student = draw(row.teacher), draw(row.student, seed=1)
    value, slopes, learned, state = outcome(loss, row, teacher, student, sample_weight=0 * WEIGHT)
    assert value == 0.0
    assert not any(np.any(slope) for slope in [*slopes, *learned])
    for before, after in zip(start, state, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("how", ["mask", "sample_weight"])
def test_padded_positions_have_no_influence(row, how):
    if not row.positions:
        pytest.skip("has no positions")
    loss, teacher, student = built(row), draw(row.teacher), draw(row.student, seed=1)
    settings = {how: COUNTS if how == "mask" else COUNTS.astype("float32")}
    runs = [(teacher, student, settings), (garbage(teacher, COUNTS), garbage(student, COUNTS), settings)]
    one, two = from_the_same_start(loss, row, *runs)
    assert_same(one, two)
    for slope in two[1]:
        np.testing.assert_array_equal(slope[~COUNTS], 0.0 * slope[~COUNTS])


def test_a_padded_example_equals_the_unpadded_one(row):
    if not row.positions or not row.adds_up:
        pytest.skip("has no positions, or learns something for each")
    loss, teacher, student = built(row), draw(row.teacher), draw(row.student, seed=1)
    cut = each(lambda x: x[:, :3], teacher), each(lambda x: x[:, :3], student)
    padded, shorter = from_the_same_start(loss, row, (teacher, student, {"mask": SHORTER}), (*cut, {}))
    assert padded[0] == pytest.approx(shorter[0], rel=1e-4)
    for mine, theirs in zip(padded[1], shorter[1], strict=True):
        np.testing.assert_allclose(mine[:, :3], theirs, rtol=2e-4, atol=1e-5)


def test_a_mask_over_a_map_has_an_effect_or_is_refused(row):
    maps = listed(row.student)
    if len(maps[0]) != 3 or row.positions or len(maps) > 2:
        pytest.skip("reads no maps")
    loss, teacher, student = built(row), draw(row.teacher), draw(row.student, seed=1)
    mask = np.random.default_rng(3).random((BATCH, *maps[0][:2])) > 0.3
    spoiled = garbage(listed(student)[0], mask)
    spoiled = [spoiled, *student[1:]] if isinstance(student, list) else spoiled
    try:
        results = [masked_first(loss, teacher, features, mask, row) for features in (student, spoiled)]
    except ConfigurationError as error:
        assert "mask" in str(error)
        return
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def masked_first(loss, teacher, student, mask, row):
    tensors = [tf.convert_to_tensor(x) for x in listed(student)]
    tensors[0]._keras_mask = tf.constant(mask)
    student = tensors if isinstance(student, list) else tensors[0]
    return float(loss(teacher, student, context=about(row, listed(teacher)[0])))


# Gradients against central differences in float64.


def swapped(teacher):
    """The teacher with two entries of the last axis swapped."""

    def swap(x):
        y = x.copy()
        y[..., 0], y[..., 1] = x[..., 1], x[..., 0]
        return y

    return each(swap, teacher)


def with_zeros(tensors):
    """As after a ReLU: half of the entries are 0."""
    return each(lambda x: np.maximum(x, 0.0), tensors)


def without_channel(tensors):
    """As after a ReLU with one dead channel."""

    def cut(x):
        x = np.maximum(x, 0.0) + 0.01
        x[..., -1] = 0.0
        return x

    return each(cut, tensors)


def saturated(tensors, sign):
    """Entries close to +60 and -60."""
    return each(lambda x: (sign * 60 * np.sign(x) + 0.1 * x).astype("float32"), tensors)


POINTS = {
    "generic": lambda teacher, student: (teacher, student),
    "near the teacher": lambda teacher, student: (
        teacher,
        [t + 0.01 * s for t, s in zip(teacher, student, strict=True)],
    ),
    "partly the teacher": lambda teacher, student: (teacher, swapped(teacher)),
    "the teacher": lambda teacher, student: (teacher, [t.copy() for t in teacher]),
    "zeros": lambda teacher, student: (with_zeros(teacher), with_zeros(student)),
    "a dead channel": lambda teacher, student: (without_channel(teacher), without_channel(student)),
    "saturated": lambda teacher, student: (saturated(teacher, 1), saturated(student, -1)),
    "saturated at the teacher": lambda teacher, student: (saturated(teacher, 1), saturated(teacher, 1)),
}
TIES = ("near the teacher", "partly the teacher", "the teacher", "saturated at the teacher")


def mean_in_float64(loss, row, teacher, student):
    """The value of the loss, computed in float64."""
    at = about(row, listed(teacher)[0])
    weight = 1.0
    if isinstance(loss, Weighted):
        weight, inner = float(loss._weight.at(at.step)), loss.loss
        examples = None if loss.examples is None else loss._example_weights(teacher, None, at).numpy()
        weight, loss = weight if examples is None else weight * examples, inner
    values = loss.call(teacher, student, at).numpy()
    assert values.dtype == "float64"
    return np.mean(values * weight)


@pytest.mark.parametrize("point", POINTS)
def test_gradient_matches_central_differences(row, point):
    teacher, student = listed(draw(row.teacher)), listed(draw(row.student, seed=1))
    if point in TIES and [x.shape for x in teacher] != [x.shape for x in student]:
        pytest.skip("features of other shapes have no ties")
    if point in row.kinks:
        pytest.skip("has no derivative there")
    if row.stops_gradient:
        pytest.skip("its gradient is meant to be another one; tested by itself")
    teacher, student = POINTS[point](teacher, student)
    several = isinstance(row.student, list)
    pack = (lambda xs: list(xs)) if several else (lambda xs: xs[0])
    _, slopes, _, _ = outcome(built(row), row, pack(teacher), pack(student))
    exact, (_, start, generic) = made_in_float64(row.name), made(row.name)
    wide_teacher, wide_student = ([x.astype("float64") for x in xs] for xs in (teacher, student))
    rng = np.random.default_rng(2)
    for _ in range(2):
        directions = [rng.normal(size=x.shape) for x in wide_student]
        moved = []
        for sign in (1, -1):
            exact.set_weights(start)
            at = [x + sign * 1e-6 * v for x, v in zip(wide_student, directions, strict=True)]
            moved.append(mean_in_float64(exact, row, pack(wide_teacher), pack(at)))
        expected = (moved[0] - moved[1]) / 2e-6
        found = sum(np.sum(slope * v) for slope, v in zip(slopes, directions, strict=True))
        assert found == pytest.approx(expected, abs=max(5e-3 * length_of(slopes), 1e-4 * generic))
