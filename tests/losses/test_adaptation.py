"""Knowledge adaptation and its auto-encoder against float64 NumPy written from the paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.adaptation import KnowledgeAdaptation, adaptation
from keras_kd.losses.affinity import affinity_kd
from keras_kd.losses.reconstruction import AutoEncoder, reconstruction
from keras_kd.serialization import deserialize, serialize


def expected(code, adapted, norm):
    losses = np.zeros(len(code))
    for index in np.ndindex(code.shape[:-1]):
        difference = adapted[index] / np.linalg.norm(adapted[index]) - code[index] / np.linalg.norm(code[index])
        losses[index[0]] += np.linalg.norm(difference, ord=norm) / np.prod(code.shape[1:-1])
    return losses


@pytest.mark.parametrize("norm", [1, 2])
def test_adaptation_matches_the_formula(assert_matches_the_formula, norm):
    def function(code, adapted):
        return adaptation(code, adapted, norm)

    assert_matches_the_formula(function, lambda c, a: expected(c, a, norm), *pair((2, 2, 3, 4), (2, 2, 3, 4)))


def test_reconstruction_matches_the_formula(assert_matches_the_formula):
    features, decoded = pair((2, 3, 3, 2), (2, 3, 3, 2))
    code = np.random.default_rng(1).normal(size=(2, 2, 2, 5))

    def reference(features, decoded):
        return ((features - decoded) ** 2).reshape(2, -1).mean(1) + 1e-3 * np.abs(code).reshape(2, -1).sum(1)

    def function(features, decoded):
        return reconstruction(features, decoded, code.astype(np.asarray(features).dtype), 1e-3)

    assert_matches_the_formula(function, reference, features, decoded, rtol=1e-3)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_adaptation_is_finite_at_zeros_and_ties(size, norm):
    code = np.float32(size) * np.ones((1, 2, 2, 3), "float32")
    for features in (code, np.zeros_like(code), -code):
        adapted = tf.Variable(features)
        with tf.GradientTape() as tape:
            value = adaptation(code, adapted, norm)
        assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, adapted)).all()


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def test_the_class_adds_the_three_terms():
    teacher, student = arrays((2, 8, 8, 6), (2, 4, 4, 3))
    loss = KnowledgeAdaptation(adaptation_weight=7.0, affinity_weight=3.0, norm=2)
    about = Context(training=False)
    value = float(loss(teacher, student, context=about))
    code, decoded = loss._autoencoder(teacher, training=False)
    assert code.shape == (2, 4, 4, 3) and decoded.shape == teacher.shape
    adapted = keras.ops.relu(loss._norm(loss._adapter(student), training=False))
    terms = [
        7.0 * adaptation(code, adapted, 2),
        3.0 * affinity_kd(code, loss._affinity_adapter(student)),
        reconstruction(teacher, decoded, code),
    ]
    assert value == pytest.approx(np.mean(sum(np.asarray(term) for term in terms)), rel=1e-5)


@pytest.mark.parametrize(
    ("teacher", "student", "strides"),
    [
        ((8, 8), (8, 8), (1, 1, 1)),
        ((8, 8), (4, 4), (2, 1, 1)),
        ((9, 9), (3, 3), (2, 1, 1)),
        ((32, 32), (4, 4), (2, 2, 2)),
        ((64, 64), (4, 4), (2, 2, 2)),
        ((4, 4), (8, 8), (1, 1, 1)),
        ((16, 8), (4, 4), (2, 1, 1)),
        ((7, 5), (3, 2), (2, 1, 1)),
    ],
)
def test_sizes_meet_at_the_code(teacher, student, strides):
    loss = KnowledgeAdaptation(code_channels=2)
    value = loss(*arrays((1, *teacher, 4), (1, *student, 3)))
    assert loss._autoencoder.strides == strides and np.isfinite(float(value))


def gradients(loss, teacher, student):
    student = tf.Variable(student)
    weights = [weight.value for weight in loss.trainable_weights]
    with tf.GradientTape() as tape:
        value = loss(teacher, student, context=Context())
    return tape.gradient(value, [student, *weights])


def test_the_code_is_trained_by_its_reconstruction_alone():
    """The gradient of the auto-encoder does not depend on the other two terms; those of the adapters do."""
    teacher, student = arrays((4, 4, 4, 4), (4, 2, 2, 3))
    loss = KnowledgeAdaptation(code_channels=2)
    loss.build((None, 4, 4, 4), (None, 2, 2, 3))
    names = ["student", *(weight.path for weight in loss.trainable_weights)]
    own = {weight.path for weight in loss._autoencoder.trainable_weights}
    start = loss.get_weights()
    found = []
    for weights in ((50.0, 1.0), (0.0, 0.0)):
        loss.set_weights(start)
        loss.adaptation_weight, loss.affinity_weight = weights
        found.append(gradients(loss, teacher, student))
    for name, with_terms, alone in zip(names, *found, strict=True):
        if name in own:
            np.testing.assert_allclose(with_terms, alone, rtol=1e-5, atol=1e-8)
        else:
            assert alone is None or not np.any(alone), name
            assert np.abs(with_terms).max() > 0, name
    assert sum(np.abs(slope).max() > 0 for name, slope in zip(names, found[0], strict=True) if name in own) >= 11


def test_the_auto_encoder_learns_to_reconstruct():
    (teacher,) = arrays((16, 4, 4, 4))
    teacher[..., 2:] = teacher[..., :2]  # a code of two channels suffices
    loss = KnowledgeAdaptation(code_channels=2, adaptation_weight=0.0, affinity_weight=0.0)
    loss.build(teacher.shape, teacher[..., :3].shape)
    student = teacher[..., :3]
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(loss.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(teacher, student)
        slopes = tape.gradient(value, loss.trainable_variables, unconnected_gradients="zero")
        optimizer.apply(slopes, loss.trainable_variables)
        return value

    values = [float(step()) for _ in range(60)]
    assert np.mean(values[-5:]) < 0.6 * np.mean(values[:5])


def trained():
    autoencoder = AutoEncoder(2, strides=(2, 1, 1))
    autoencoder(arrays((2, 4, 4, 4))[0], training=True)
    return autoencoder


def test_a_trained_auto_encoder_stays_fixed_and_is_saved():
    teacher, student = arrays((4, 4, 4, 4), (4, 2, 2, 3))
    given = trained()
    before = given.get_weights()
    loss = KnowledgeAdaptation(autoencoder=given)
    value = float(loss(teacher, student, context=Context(training=True)))
    fixed = {weight.path for weight in loss._autoencoder.weights}
    assert len(loss.trainable_weights) == 5 and not fixed & {weight.path for weight in loss.trainable_weights}
    for mine, theirs in zip(loss._autoencoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert given.trainable and given is not loss._autoencoder
    again = deserialize(serialize(loss))
    assert np.isnan(float(again(teacher, student)))  # until the weights are loaded
    again.set_weights(loss.get_weights())
    assert len(again.trainable_weights) == 5
    code, decoded = given(teacher, training=False)
    full = KnowledgeAdaptation(autoencoder=given)
    full.build(teacher.shape, student.shape)
    full.set_weights(loss.get_weights())
    expected = float(full(teacher, student, context=Context(training=False)))
    assert float(again(teacher, student, context=Context(training=False))) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(value)


def test_rows_of_weight_0_do_not_change_the_statistics():
    teacher, student = arrays((4, 4, 4, 4), (4, 2, 2, 3))
    weight = np.float32([1, 0, 1, 1])
    states = []
    for garbage in (1.0, 100.0):
        loss = KnowledgeAdaptation(code_channels=2)
        keras.utils.set_random_seed(0)
        loss.build((None, 4, 4, 4), (None, 2, 2, 3))
        spoiled = [
            x * np.where(weight == 0, garbage, 1.0).astype("float32")[:, None, None, None] for x in (teacher, student)
        ]
        states.append([float(loss(*spoiled, sample_weight=weight, context=Context())), *loss.get_weights()])
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KnowledgeAdaptation(autoencoder=AutoEncoder(2)), "'autoencoder'.*never called"),
        (lambda: KnowledgeAdaptation(autoencoder=keras.layers.Dense(2)), "'autoencoder'.*a trained"),
        (lambda: KnowledgeAdaptation(autoencoder=trained(), code_channels=2), "without code_channels"),
        (lambda: KnowledgeAdaptation(norm=3), "norm"),
        (lambda: KnowledgeAdaptation(code_channels=0), "code_channels"),
        (lambda: KnowledgeAdaptation(affinity_weight=-1.0), "affinity_weight"),
        (lambda: AutoEncoder(2, strides=(2, 2)), "number of strides"),
        (lambda: AutoEncoder(2, strides=(3, 1, 1)), "strides"),
        (lambda: KnowledgeAdaptation().build((None, 3), (None, 3)), "compares feature maps"),
        (
            lambda: KnowledgeAdaptation(autoencoder=trained())(*arrays((1, 4, 4, 5), (1, 2, 2, 3))),
            "another layer",
        ),
    ],
)
def test_bad_use_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
