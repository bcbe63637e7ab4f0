"""Schedules that a callback sets on the distiller."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import AlphaDecay, TemperatureDecay
from keras_kd.errors import ConfigurationError
from keras_kd.schedules import Constant, Cosine, Linear

STEPS = 4  # per epoch: 64 images in batches of 16


@pytest.fixture
def make_distiller(make_model):
    def make(**settings):
        keras.utils.set_random_seed(3)
        distiller = kd.Distiller(make_model(8), make_model(4), **settings)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.Adam(0.01), loss=loss)
        return distiller

    return make


@pytest.fixture
def fit(digits):
    def fit(model, *callbacks, epochs=1):
        x, y = digits[0][:64], digits[1][:64]
        settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "epochs": epochs}
        return model.fit(x, y, callbacks=list(callbacks), **settings).history

    return fit


class Seen(keras.callbacks.Callback):
    """Records the distiller's alpha after each batch."""

    def __init__(self):
        super().__init__()
        self.alphas = []

    def on_train_batch_end(self, batch, logs=None):
        self.alphas.append(float(logs["alpha"]))


def cosine(start, end, steps, step):
    """Half a cosine by its definition, in float64."""
    return end + (start - end) * (1 + np.cos(np.pi * np.minimum(step / steps, 1))) / 2


def test_alpha_follows_the_schedule_through_two_fits(make_distiller, fit):
    """Even if the step was first compiled with a number; the second fit continues where the first ended."""
    distiller, seen = make_distiller(alpha=0.5), Seen()
    fit(distiller, seen)
    callback = AlphaDecay(Cosine(0.9, 0.1, steps=16))
    fit(distiller, callback, seen, epochs=2)
    fit(distiller, callback, seen, epochs=2)
    np.testing.assert_allclose(seen.alphas[:STEPS], 0.5, rtol=1e-6)
    np.testing.assert_allclose(seen.alphas[STEPS:], cosine(0.9, 0.1, 16, np.arange(4, 20)), rtol=1e-5)
    assert distiller.alpha == Cosine(0.9, 0.1, steps=16)


def test_a_callback_equals_the_argument_of_the_distiller(make_distiller, fit):
    schedules = {"alpha": Linear(1.0, 0.2, steps=6), "temperature": Linear(8.0, 1.0, steps=6)}
    one, other = make_distiller(**schedules), make_distiller()
    expected = fit(one, epochs=2)
    received = fit(other, AlphaDecay(schedules["alpha"]), TemperatureDecay(schedules["temperature"]), epochs=2)
    assert received["alpha"] == pytest.approx(expected["alpha"])
    assert received["soft_targets"] == pytest.approx(expected["soft_targets"])
    for a, b in zip(one.student.get_weights(), other.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_temperature_follows_the_schedule(make_distiller, fit):
    constant, cooling = make_distiller(temperature=8.0), make_distiller(temperature=8.0)
    flat = fit(constant)
    cooled = fit(cooling, TemperatureDecay(Linear(8.0, 1.0, steps=STEPS)))
    assert cooling.temperature == Linear(8.0, 1.0, steps=STEPS)
    assert cooled["distillation_loss"] != pytest.approx(flat["distillation_loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("setting", "schedule"),
    [(0.3, Constant(0.3)), ({"name": "linear", "start": 1.0, "end": 0.0, "steps": 3}, Linear(1.0, 0.0, steps=3))],
)
def test_numbers_and_names_are_accepted_as_schedules(setting, schedule, make_distiller, fit):
    distiller = make_distiller()
    fit(distiller, AlphaDecay(setting))
    assert distiller.alpha == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlphaDecay("cosin"), "Unknown schedule.*'cosin'"),
        (lambda: AlphaDecay(None), "Unsupported schedule"),
        (lambda: TemperatureDecay({"name": "cosine", "start": 1.0}), "does not take these settings"),
    ],
)
def test_an_invalid_schedule_is_rejected_at_construction(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(("callback", "attribute"), [(AlphaDecay, "alpha"), (TemperatureDecay, "temperature")])
def test_a_model_other_than_a_distiller_is_rejected(callback, attribute, make_model, fit):
    model = make_model(4)
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    message = f"{callback.__name__} needs a model with '{attribute}'. Received: a Sequential. Expected: a keras_kd.Dist"
    before = model.get_weights()
    with pytest.raises(ConfigurationError, match=message):
        fit(model, callback(0.5))
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
