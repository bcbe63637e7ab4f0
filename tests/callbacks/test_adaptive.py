"""Alpha and learning rate by the student's progress, in real and simulated trainings, killed and resumed."""

import math
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import (
    AdaptiveAlpha,
    DynamicWeightAverage,
    EqualParts,
    GapToTeacher,
    ProgressLearningRate,
    Resume,
)
from keras_kd.errors import ConfigurationError, Notice
from keras_kd.schedules import Cosine

L = keras.layers


def make(alpha=0.8, *, compiled=False, rate=0.05):
    keras.utils.set_random_seed(5)
    models = [keras.Sequential([keras.Input((4,)), L.Dense(3)]) for _ in range(2)]
    distiller = kd.Distiller(*models, alpha=alpha)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    jit = compiled and keras.backend.backend() == "jax"
    optimizer = keras.optimizers.SGD(rate)
    distiller.compile(optimizer, loss=loss, metrics=metrics, run_eagerly=not compiled, jit_compile=jit)
    return distiller


def fit(model, *callbacks, epochs=5):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("float32")
    y = np.argmax(x[:, :3], -1)
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **settings).history


class Killed(BaseException):
    """Simulates kill -9."""


class KillIn(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


RULES = [GapToTeacher("val_loss", teacher=0.2), EqualParts(0.5), DynamicWeightAverage(0.1)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_compiled_training_uses_the_alpha_of_the_rule(rule):
    """Without a new trace: the alpha in the logs of each epoch is the one set after the epoch before."""
    distiller, callback = make(compiled=True), AdaptiveAlpha(rule, at_least=0.05)
    traces = []
    study = distiller.study
    distiller.study = lambda x: traces.append(1) or study(x)
    logs = fit(distiller, callback, epochs=4)
    names = rule.reads
    state, expected = rule.begin(0.8), [0.8]
    for row in zip(*(logs[name] for name in names), strict=True):
        alpha, state = rule.after_epoch(state, *map(float, row))
        expected.append(min(max(alpha, 0.05), 1.0))
    np.testing.assert_allclose(logs["alpha"], expected[:-1], rtol=1e-6)
    np.testing.assert_allclose(callback.history, expected[1:], rtol=1e-6)
    assert len(set(callback.history)) > 1 and distiller.alpha == pytest.approx(expected[-1])
    assert len(traces) <= 2


def state(model):
    return [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_killed_and_resumed(rule, tmp_path):
    def callbacks():
        return AdaptiveAlpha(rule), ProgressLearningRate("val_loss", teacher=0.2, patience=1, shrinkage=0.3)

    whole, expected = make(), callbacks()
    fit(whole, *expected)
    resume = {"every_seconds": 0, "keep_finished": True}
    for epoch in (1, 3):
        with pytest.raises(Killed):
            fit(make(), *callbacks(), Resume(tmp_path, **resume), KillIn(epoch))
    resumed, received = make(), callbacks()
    fit(resumed, *received, Resume(tmp_path, **resume))
    assert [one.history for one in received] == [one.history for one in expected]
    assert len(set(expected[0].history)) > 1 and len(set(expected[1].history)) > 1
    for one, other in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigurationError, match="another training.*AdaptiveAlpha.at_least"):
        fit(make(), AdaptiveAlpha(rule, at_least=0.3), received[1], Resume(tmp_path, **resume))


class Simulated:
    """A model whose metric follows a script."""

    def __init__(self, rate=1.0):
        self.optimizer = keras.optimizers.SGD(rate)


def rates(values, **settings):
    callback = ProgressLearningRate("val_accuracy", teacher=0.9, **settings)
    callback.set_model(Simulated())
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_accuracy": value})
    return callback.history


def by_definition(values, teacher, factor, patience, shrinkage, at_least=0.0):
    """The rule once more, epoch by epoch, with the list of all gaps."""
    rate, found, since = 1.0, [], 0
    gaps = [teacher - value for value in values]
    for epoch, gap in enumerate(gaps):
        best = min(gaps[:epoch], default=math.inf)
        progress = gap < best and (best <= 0 or math.isinf(best) or gap <= (1 - shrinkage) * best)
        since = 0 if progress else since + 1
        if since == patience:
            rate, since = max(rate * factor, at_least), 0
        found.append(rate)
    return found


@pytest.mark.parametrize(("factor", "patience", "shrinkage"), [(0.5, 1, 0.05), (0.1, 2, 0.5), (0.3, 3, 0.0)])
def test_the_rate_falls_when_the_gap_no_longer_shrinks(factor, patience, shrinkage):
    values = [0.5, 0.6, 0.61, 0.61, 0.6, 0.8, 0.801, 0.802, 0.803, 0.9, 0.91, 0.92, 0.92, 0.92, 0.92]
    received = rates(values, factor=factor, patience=patience, shrinkage=shrinkage)
    np.testing.assert_allclose(received, by_definition(values, 0.9, factor, patience, shrinkage), rtol=1e-6)
    assert received[-1] < 1.0


def test_small_gains_near_the_teacher_are_progress():
    """A plateau with an absolute threshold would end the training here."""
    gaps = [0.1 * 0.8**epoch for epoch in range(12)]
    assert rates([0.9 - gap for gap in gaps], patience=1) == [1.0] * 12


def test_the_lowest_rate():
    assert rates([0.5] * 6, patience=1, factor=0.1, at_least=0.05)[-1] == pytest.approx(0.05)


@pytest.mark.parametrize("value", [None, float("nan")])
def test_an_epoch_without_the_metric_changes_nothing(value):
    distiller, callback = make(), AdaptiveAlpha(GapToTeacher("val_accuracy", 0.9))
    callback.set_model(distiller)
    callback.on_train_begin()
    with pytest.warns(Notice, match="val_accuracy.*Nothing changes"):
        callback.on_epoch_end(0, {} if value is None else {"val_accuracy": value})
    assert distiller.alpha == 0.8 and callback.history == [0.8]


@pytest.mark.parametrize(
    ("make_callback", "make_model", "message"),
    [
        (lambda: AdaptiveAlpha("gap"), make, "Unknown rule.*GapToTeacher"),
        (lambda: AdaptiveAlpha(EqualParts(), at_least=0.5, at_most=0.4), make, "Invalid 'at_most'"),
        (lambda: AdaptiveAlpha(EqualParts()), lambda: make(Cosine(0.9, 0.1, steps=5)), "alpha is a number.*Cosine"),
        (lambda: AdaptiveAlpha(EqualParts()), Simulated, "alpha is a number.*a Simulated"),
        (lambda: ProgressLearningRate("val_loss", teacher=0.1, factor=1.0), make, "Invalid 'factor'"),
        (lambda: ProgressLearningRate("val_loss", teacher=0.1, patience=0), make, "Invalid 'patience'"),
        (
            lambda: ProgressLearningRate("val_loss", teacher=0.1),
            lambda: Simulated(keras.optimizers.schedules.CosineDecay(0.1, 5)),
            "A schedule sets the learning rate",
        ),
    ],
)
def test_what_is_refused(make_callback, make_model, message):
    with pytest.raises(ConfigurationError, match=message):
        callback = make_callback()
        callback.set_model(make_model())
        callback.on_train_begin()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts JAX")
def test_on_jax(start):
    here = Path(__file__)
    files = [here, here.with_name("test_snapshots.py")]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *files, "-k", "compiled or killed"]
    child = start(*command, cwd=here.parents[2], env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout and "failed" not in child.stdout
