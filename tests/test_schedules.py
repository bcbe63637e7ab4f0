"""Schedules against their formulas in float64, and their laws."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Join,
    LearningRate,
    Linear,
    Piecewise,
    Polynomial,
)

STEPS = np.arange(0, 31)


def fraction(step):
    return min(max(step / 10, 0.0), 1.0)


CASES = {
    "constant": (Constant(0.3), lambda s: 0.3),
    "linear": (Linear(0.9, 0.1, steps=10), lambda s: 0.9 - 0.8 * fraction(s)),
    "cosine": (Cosine(0.9, 0.1, steps=10), lambda s: 0.1 + 0.8 * (1 + math.cos(math.pi * fraction(s))) / 2),
    "restarts": (
        CosineRestarts(0.9, 0.1, steps=10),
        lambda s: 0.1 + 0.8 * (1 + math.cos(math.pi * (s % 10) / 10)) / 2,
    ),
    "restarts, twice": (
        CosineRestarts(0.9, 0.1, steps=10, cycles=2),
        lambda s: 0.1 + 0.8 * (1 + math.cos(math.pi * (s % 10) / 10)) / 2 if s < 20 else 0.1,
    ),
    "exponential": (Exponential(8.0, rate=0.5, steps=10), lambda s: 8.0 * 0.5 ** (s / 10)),
    "exponential, falls to": (Exponential(8.0, rate=0.5, steps=5, end=2.0), lambda s: max(8 * 0.5 ** (s / 5), 2.0)),
    "exponential, rises to": (Exponential(1.0, rate=2.0, steps=5, end=3.0), lambda s: min(2 ** (s / 5), 3.0)),
    "polynomial": (Polynomial(1.0, 0.2, steps=10, power=3.0), lambda s: 0.2 + 0.8 * (1 - fraction(s)) ** 3),
    "piecewise": (Piecewise((5, 20), (1.0, 0.5, 0.25)), lambda s: 1.0 if s < 5 else 0.5 if s < 20 else 0.25),
    "join": (
        Join((Linear(0.0, 1.0, steps=10), Cosine(1.0, 0.0, steps=10)), boundaries=(10,)),
        lambda s: s / 10 if s < 10 else (1 + math.cos(math.pi * fraction(s - 10))) / 2,
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


def test_values_follow_the_formula(case):
    schedule, formula = case
    np.testing.assert_allclose([float(schedule(int(s))) for s in STEPS], [formula(s) for s in STEPS], atol=1e-6)


def test_a_whole_range_of_steps_at_once(case):
    schedule, formula = case
    np.testing.assert_allclose(schedule(STEPS), [formula(s) for s in STEPS], atol=1e-6)


def test_the_same_inside_a_compiled_function(case):
    schedule, formula = case
    compiled = tf.function(schedule, jit_compile=True)
    for step in (0, 7, 10, 25):
        assert float(compiled(tf.constant(step, tf.int64))) == pytest.approx(formula(step), abs=1e-6)


def test_round_trips(case):
    schedule, _ = case
    as_json = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    again = keras.saving.deserialize_keras_object(as_json)
    assert again == schedule and hash(again) == hash(schedule) and repr(again) == repr(schedule)


def test_from_a_name_with_settings():
    settings = {
        "name": "join",
        "schedules": [{"name": "linear", "start": 0, "end": 1, "steps": 5}, 0.5],
        "boundaries": [5],
    }
    assert schedules.get(settings) == Join((Linear(0, 1, steps=5), Constant(0.5)), (5,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1.0, 0.0, steps=0), "'steps'.*Received: 0.*1 <= steps"),
        (lambda: CosineRestarts(1.0, 0.0, steps=5, cycles=0), "'cycles'.*Received: 0"),
        (lambda: LearningRate("cosin"), "Unknown schedule"),
        (lambda: Linear(1.0, 0.0, steps=2.5), "'steps'.*2.5.*whole number"),
        (lambda: Linear("1", 0.0, steps=2), "'start'.*'1'.*number"),
        (lambda: Cosine(math.nan, 0.0, steps=2), "'start'.*nan"),
        (lambda: Exponential(1.0, rate=0.0, steps=2), "'rate'"),
        (lambda: Polynomial(1.0, 0.0, steps=2, power=-1), "'power'"),
        (lambda: Piecewise((5,), (1.0,)), "'boundaries'.*0 increasing steps"),
        (lambda: Piecewise((5, 3), (1.0, 2.0, 3.0)), "increasing"),
        (lambda: Join((0.5, 0.1), (-1,)), "boundaries.*-1"),
        (lambda: schedules.get("cosin"), "Unknown schedule.*Did you mean 'cosine'"),
        (lambda: schedules.get({"name": "cosine", "start": 1.0}), "does not take these settings.*missing"),
        (lambda: schedules.get(True), "Unsupported schedule.*True"),
    ],
)
def test_invalid_settings_are_explained(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


KERAS_SCHEDULES = {
    "cosine": keras.optimizers.schedules.CosineDecay(0.8, decay_steps=10, alpha=0.1),
    "piecewise": keras.optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.9, 0.5, 0.1]),
    "exponential": keras.optimizers.schedules.ExponentialDecay(0.5, decay_steps=3, decay_rate=0.5, staircase=True),
}


@pytest.mark.parametrize("name", KERAS_SCHEDULES)
def test_a_schedule_of_keras_is_accepted_unchanged(name):
    schedule = KERAS_SCHEDULES[name]
    assert schedules.get(schedule) is schedule
    joined = Join((Constant(0.25), schedule), boundaries=(4,))
    again = Join.from_config(json.loads(json.dumps(joined.get_config())))
    for step in (0, 3, 4, 8, 30):
        expected = 0.25 if step < 4 else float(schedule(step - 4))
        assert float(joined(step)) == float(again(step)) == pytest.approx(expected)


def test_a_restarting_rate_of_an_optimizer(tmp_path):
    """Plain gradient descent on `w`, whose gradient is 1: each step moves it by the rate; also after loading."""
    rate = LearningRate(CosineRestarts(0.4, 0.0, steps=4))
    optimizer = keras.optimizers.SGD.from_config(json.loads(json.dumps(keras.optimizers.SGD(rate).get_config())))
    weight = keras.Variable(0.0)
    moved = []
    for _ in range(9):
        before = float(weight)
        optimizer.apply([keras.ops.ones(())], [weight])
        moved.append(before - float(weight))
    expected = [0.2 * (1 + math.cos(math.pi * (step % 4) / 4)) for step in range(9)]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
