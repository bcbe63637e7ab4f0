"""Distillation by singular value decomposition against float64 NumPy from the paper, and its gradient at ties."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses.singular_value import SingularValueKD, singular_value_kd, singular_vectors


def decomposed(features, count):
    """Singular values, and right singular vectors as columns, of one example; those of value 0 are left out."""
    rows = features.reshape(-1, features.shape[-1])
    _, values, vectors = np.linalg.svd(rows, full_matrices=False)
    exists = values > 1e-6 * max(values[0], 1e-300)
    return values[exists][:count], vectors[exists][:count].T


def aligned(teacher, student, count):
    """The weighted vectors of the teacher, and for each the student's of the largest absolute cosine, made positive."""
    values, target = decomposed(teacher, count)
    target = target * np.where(target.sum(0) < 0, -1.0, 1.0)
    _, candidates = decomposed(student, count + 3)
    weights = values / np.linalg.norm(values)
    chosen = np.zeros_like(target)
    for k in range(target.shape[1]):
        cosines = candidates.T @ target[:, k]
        best = np.argmax(np.abs(cosines))
        chosen[:, k] = candidates[:, best] * (-1.0 if cosines[best] < 0 else 1.0)
    return target * weights, chosen * weights


def radial(first, second):
    return np.exp(-((first[:, None] - second[None]) ** 2) / 8)


def reference(teacher, student, count=1):
    losses = np.zeros(len(teacher[0]))
    for example in range(len(losses)):
        layers = [aligned(t[example], s[example], count) for t, s in zip(teacher, student, strict=True)]
        for (t_first, s_first), (t_next, s_next) in zip(layers[:-1], layers[1:], strict=True):
            losses[example] += np.sum((radial(s_first, s_next) - radial(t_first, t_next)) ** 2)
    return losses


def maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) + 0.5 for shape in shapes]


SHAPES = {
    "more positions than channels": (((2, 2, 3, 3), (2, 2, 3, 4)), ((2, 2, 2, 3), (2, 2, 3, 4))),
    "more channels than positions": (((2, 2, 2, 5), (2, 3, 5)), ((2, 2, 2, 5), (2, 3, 5))),
    "three layers, one example": (((1, 5, 2), (1, 4, 3), (1, 3, 3)), ((1, 4, 2), (1, 4, 3), (1, 3, 3))),
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shapes", SHAPES)
def test_matches_the_formula(assert_matches_the_formula, shapes, count):
    teacher, student = SHAPES[shapes]

    def function(teacher, student):
        return singular_value_kd(teacher, student, count)

    teacher, student = maps(*teacher), maps(*student, seed=1)
    assert_matches_the_formula(function, lambda t, s: reference(t, s, count), teacher, student, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 4, 4, 5), (3, 3, 7)])
def test_vectors_are_those_of_the_decomposition(shape):
    (features,) = maps(shape)
    values, vectors = map(keras.ops.convert_to_numpy, singular_vectors(features, 3))
    for example in range(3):
        theirs, basis = decomposed(features[example], 3)
        np.testing.assert_allclose(values[example], theirs, rtol=1e-10)
        np.testing.assert_allclose(np.abs(np.sum(vectors[example] * basis, axis=0)), 1.0, rtol=1e-10)


def slopes(features, count=2):
    """The gradient of a fixed function of the singular vectors that does not depend on their signs."""
    variable = tf.Variable(features)
    with tf.GradientTape() as tape:
        _, vectors = singular_vectors(variable, count)
        weights = np.arange(1.0, 1.0 + features.shape[-1]).astype(features.dtype)[None, :, None]
        value = tf.reduce_sum(tf.square(vectors) * weights)
    return value.numpy(), tape.gradient(value, variable).numpy()


TIES = {
    "zeros": np.zeros((1, 4, 4)),
    "one position": np.eye(4)[None, :1],
    "equal singular values": np.eye(4)[None],
    "two equal pairs": np.diag([2.0, 2.0, 1.0, 1.0])[None],
    "equal rows": np.ones((1, 4, 4)),
    "equal within rounding": np.eye(4)[None] * (1 + 1e-8 * np.arange(4)),
    "more channels than positions, equal": np.eye(4)[None, :2],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TIES)
def test_the_gradient_is_finite_at_ties_and_zeros(name, dtype):
    for size in (1.0, 60.0, 1e-20):
        value, gradient = slopes((size * TIES[name]).astype(dtype))
        assert np.isfinite(value) and np.isfinite(gradient).all()
        assert np.abs(gradient).max() * size < 10.0


def test_the_gradient_close_to_a_tie_is_bounded():
    """The vectors turn by up to 1 / gap; within 1e-5 of a tie that part is left out."""
    for gap in 10.0 ** -np.arange(1, 9):
        _, gradient = slopes(np.diag([1.0 + gap, 1.0, 0.3])[None] + 0.01, count=1)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1e6


def test_directions_without_a_tie_keep_their_gradient_beside_one():
    """The first vector of diag(3, 1, 1) has a derivative, although the other two have none."""
    features = np.diag([3.0, 1.0, 1.0])[None]
    variable = tf.Variable(features)
    with tf.GradientTape() as tape:
        _, vectors = singular_vectors(variable, 1)
        value = tf.reduce_sum(vectors[:, 0] * vectors[:, 1])
    step = np.zeros_like(features)
    step[0, 0, 1] = 1e-6
    moved = [decomposed((features + sign * step)[0], 1)[1][:, 0] for sign in (1, -1)]
    expected = (moved[0][0] * moved[0][1] - moved[1][0] * moved[1][1]) / 2e-6
    assert tape.gradient(value, variable).numpy()[0, 0, 1] == pytest.approx(expected, rel=1e-5)


def test_the_sign_of_the_vectors_does_not_matter():
    teacher, student = maps((2, 3, 3, 2), (2, 4, 2)), maps((2, 3, 3, 2), (2, 4, 2), seed=1)
    straight = singular_value_kd(teacher, student)
    np.testing.assert_allclose(singular_value_kd(teacher, [-student[0], student[1]]), straight)
    np.testing.assert_allclose(singular_value_kd([-teacher[0], teacher[1]], student), straight)


def test_padded_positions_equal_removed_ones():
    loss = SingularValueKD()
    teacher, student = ([x.astype("float32") for x in maps((2, 5, 3), (2, 5, 4), seed=i)] for i in (0, 1))
    cut = float(loss([x[:, :3] for x in teacher], [x[:, :3] for x in student]))
    weight = np.float32([[1, 1, 1, 0, 0]] * 2)
    padded = float(loss(teacher, student, sample_weight=weight))
    assert padded == pytest.approx(cut * 3 / 5, rel=1e-4)  # the weight of an example is the mean of its weights


def shaped(*shapes):
    return [keras.KerasTensor((None, *shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("settings", "teacher", "student", "message"),
    [
        ({}, [(4, 4, 2)], [(4, 4, 2)], "two or more"),
        ({}, [(4, 4, 2), (2, 2, 3)], [(4, 4, 2)], "2 of the teacher, 1 of the student"),
        ({}, [(4, 4, 2), (3,)], [(4, 4, 2), (3,)], "positions and channels.*before the pooling"),
        ({"projector": None}, [(4, 2), (4, 3)], [(4, 2), (4, 2)], r"\[2, 3\].*\[2, 2\].*'auto', which"),
        ({"num_vectors": 3}, [(4, 2), (4, 3)], [(4, 2), (4, 3)], "num_vectors=3.*at most 2"),
    ],
)
def test_incompatible_shapes_are_refused(settings, teacher, student, message):
    with pytest.raises(ConfigurationError, match=message):
        SingularValueKD(**settings).validate_outputs(shaped(*teacher), shaped(*student))
    with pytest.raises(ConfigurationError, match=message):
        SingularValueKD(**settings).build([(None, *x) for x in teacher], [(None, *x) for x in student])


@pytest.mark.parametrize("settings", [{"num_vectors": 0}, {"num_vectors": 1.5}, {"projector": "conv"}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        SingularValueKD(**settings)


def test_one_output_is_refused():
    with pytest.raises(ConfigurationError, match="1 of the teacher, 1 of the student"):
        SingularValueKD().validate_outputs(*shaped((4, 10), (4, 10)))
