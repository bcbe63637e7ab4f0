"""A training in stages: features, then predictions, then labels; a weight of 0 means no influence."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.curricula import stages
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Hint, SoftTargets, Weighted
from keras_kd.schedules import Piecewise

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.integers(0, 3, 12)
HIDDEN, OUT = RNG.normal(size=(4, 5)).astype("float32"), RNG.normal(size=(5, 3)).astype("float32")


def make_model(scale=1.0):
    x = keras.Input((4,))
    hidden = keras.layers.Dense(5, use_bias=False, name="hidden")(x)
    model = keras.Model(x, keras.layers.Dense(3, use_bias=False, name="out")(hidden))
    model.set_weights([HIDDEN * scale, OUT * scale])
    return model


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def make_distiller(losses, alpha=1.0, optimizer=None, student=None):
    distiller = kd.Distiller(make_model(), student or make_model(0.1), losses=losses, alpha=alpha, temperature=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), loss=loss)
    return distiller


def fit(distiller, epochs=2):
    distiller.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return distiller.student.get_weights()


def staged():
    features, predictions, _ = stages(2, 4)
    hint = Weighted(Hint(teacher="hidden", student="hidden"), features)
    return make_distiller([hint, Weighted(SoftTargets(), predictions)], alpha=Piecewise((4,), (1.0, 0.0)))


def trained():
    return [weight.tolist() for weight in fit(staged())]


def test_weights():
    assert stages(10) == (Piecewise((10,), (1.0, 0.0)), Piecewise((10,), (0.0, 1.0)))
    table = [[float(weight(step)) for step in (0, 9, 10, 29, 30, 99)] for weight in stages(10, 30)]
    assert table == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("boundaries", [(), (0,), (5, 5), (7, 3), (1.5,), ((3, 5),)])
def test_boundaries(boundaries):
    with pytest.raises(ConfigurationError):
        stages(*boundaries)


def test_each_stage_is_plain_gradient_descent_on_its_loss():
    """In float64, two steps of each of the three."""
    hidden, out = (weight.astype("float64") * 0.1 for weight in (HIDDEN, OUT))
    for step in range(6):
        rows = slice(4 * (step % 3), 4 * (step % 3) + 4)
        x, y = X[rows].astype("float64"), Y[rows]
        h = x @ hidden
        if step < 2:  # mean squared error over batch and units
            hidden = hidden - 0.1 * x.T @ (2 * (h - x @ HIDDEN) / h.size)
            continue
        target = softmax(x @ HIDDEN.astype("float64") @ OUT) if step < 4 else np.eye(3)[y]
        error = (softmax(h @ out) - target) / len(x)
        hidden, out = hidden - 0.1 * x.T @ (error @ out.T), out - 0.1 * h.T @ error
    for one, other in zip(fit(staged()), (hidden, out), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.01),
}


def narrow():
    x = keras.Input((4,))
    hidden = keras.layers.Dense(2, name="narrow")(x)
    model = keras.Model(x, keras.layers.Dense(3, name="out")(keras.layers.BatchNormalization()(hidden)))
    generator = np.random.default_rng(1)
    model.set_weights([np.abs(generator.normal(size=weight.shape)) for weight in model.get_weights()])
    return model


@pytest.mark.filterwarnings("ignore:Projectors")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_of_zero_has_no_influence(name):
    """Neither on the student and its statistics, nor on what the loss itself trains."""
    keras.utils.set_random_seed(0)
    hint = Weighted(Hint(teacher="hidden", student="narrow"), 0.0)
    without = make_distiller([SoftTargets()], 0.7, OPTIMIZERS[name](), narrow())
    beside = make_distiller([SoftTargets(), hint], 0.7, OPTIMIZERS[name](), narrow())
    projector = [np.array(weight) for weight in hint.trainable_weights]
    assert projector
    for one, other in zip(fit(beside), fit(without), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    for weight, before in zip(hint.trainable_weights, projector, strict=True):
        np.testing.assert_array_equal(weight, before)
