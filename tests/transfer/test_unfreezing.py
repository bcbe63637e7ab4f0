"""Layers that begin to be trained during a `fit`: which, when, with which optimizer state, and after a kill."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import Resume
from keras_kd.errors import ConfigurationError
from keras_kd.transfer import freeze, unfreeze_gradually

L = keras.layers
BOUNDARIES = {0: "block_2", 2: "block_1", 3: None}
LAYERS = {"dense_1", "norm_1", "dense_2", "norm_2", "dense_3", "norm_3", "head"}
TRAINED = [{"dense_3", "norm_3", "head"}] * 2 + [LAYERS - {"dense_1", "norm_1"}, LAYERS, LAYERS]


def network(**settings):
    body = [keras.Input((6,))]
    for number in (1, 2, 3):
        body += [L.Dense(5, name=f"dense_{number}", **settings), L.BatchNormalization(name=f"norm_{number}")]
        body += [L.ReLU(name=f"block_{number}")]
    return keras.Sequential([*body, L.Dropout(0.2), L.Dense(3, name="head", dtype="float32")])


def make(kind="model", optimizer="adam", *, compiled=False):
    """A model or a distiller, whose step runs eagerly unless `compiled`: tracing takes longer than a few steps."""
    keras.utils.set_random_seed(7)
    model = network()
    if kind == "distiller":
        model = kd.Distiller(network(), model, alpha=0.5)
    rate = 0.01
    chosen = {
        "adam": lambda: keras.optimizers.Adam(rate),
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=0.5),
        "ema": lambda: keras.optimizers.SGD(rate, use_ema=True),
        "schedule": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(rate, 10)),
    }[optimizer]()
    jit = compiled and keras.backend.backend() == "jax"
    model.compile(chosen, loss="mse", run_eagerly=not compiled, jit_compile=jit)
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(1, 2, size=(16, 6)).astype("float32"), rng.normal(size=(16, 3)).astype("float32")


def student_of(model):
    return getattr(model, "student", model)


def weights(model):
    return {weight.path: np.array(weight) for weight in student_of(model).weights}


def changed(before, after):
    return {path.split("/")[-2] for path in after if not np.array_equal(before[path], after[path])}


class Killed(BaseException):
    """Simulates kill -9."""


class Watch(keras.callbacks.Callback):
    """Which layers change in each epoch, and the learning rate there; may kill the training in an epoch."""

    def __init__(self, kill_in=None):
        super().__init__()
        self.changed, self.rates, self.kill_in = [], [], kill_in

    def on_epoch_begin(self, epoch, logs=None):
        self._before = weights(self.model)
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._epoch == self.kill_in:
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        self.changed.append(changed(self._before, weights(self.model)))
        self.rates.append(round(float(self.model.optimizer.learning_rate), 8))


def fit(model, *callbacks, epochs=5, **settings):
    x, y = data()
    return model.fit(x, y, batch_size=8, shuffle=False, epochs=epochs, verbose=0, callbacks=list(callbacks), **settings)


@pytest.mark.parametrize("kind", ["model", "distiller"])
def test_each_group_is_trained_from_its_epoch_on(kind):
    """Weight decay does not touch frozen weights either."""
    model, watch = make(kind, "adamw", compiled=True), Watch()
    fit(model, unfreeze_gradually(BOUNDARIES, rate_factor=0.5), watch)
    assert watch.changed == TRAINED
    assert watch.rates == [0.01, 0.01, 0.005, 0.0025, 0.0025]


def test_a_model_that_was_frozen_before():
    model, watch = make(), Watch()
    freeze(model, until="block_2")
    fit(model, unfreeze_gradually({0: "block_2", 1: "block_1"}), watch, epochs=2)
    assert watch.changed == TRAINED[1:3]


def test_a_nested_model_with_a_flag_of_false():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, name="one"), L.Dense(4, name="two")], name="inner")
    x = keras.Input((6,))
    model, watch = keras.Model(x, L.Dense(3, name="head")(inner(x))), Watch()
    inner.trainable = False
    model.compile("sgd", loss="mse", run_eagerly=True)
    fit(model, unfreeze_gradually({0: "inner", 1: "inner/one", 2: None}), watch, epochs=3)
    assert watch.changed == [{"head"}, {"two", "head"}, {"one", "two", "head"}]
    assert inner.trainable and len(inner.trainable_weights) == 4


def adam(gradient, state, step, rate=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """One update by Kingma & Ba, 2015, with the bias corrections of the given step."""
    state["m"] = beta_1 * state["m"] + (1 - beta_1) * gradient
    state["v"] = beta_2 * state["v"] + (1 - beta_2) * gradient**2
    scale = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return scale * state["m"] / (np.sqrt(state["v"]) + epsilon)


def test_the_updates_are_those_of_adam_with_slots_that_begin_at_zero():
    """Two linear layers, one step an epoch, the lower one from the third epoch on, in float64."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4, use_bias=False, name="a"), L.Dense(2, use_bias=False, name="b")]
    )
    model.compile(keras.optimizers.Adam(0.1), loss="mse", run_eagerly=True)
    a, b = (np.array(layer.kernel, "float64") for layer in model.layers)
    states = [{"m": 0.0, "v": 0.0} for _ in range(2)]
    for step in range(1, 6):
        error = 2 * (x @ a @ b - y) / y.size
        updates = x.T @ error @ b.T, (x @ a).T @ error
        b = b - adam(updates[1], states[1], step)
        if step > 2:
            a = a - adam(updates[0], states[0], step)
    unfreezing = unfreeze_gradually({0: "a", 2: None})
    model.fit(x, y, batch_size=8, epochs=5, verbose=0, callbacks=[unfreezing])
    np.testing.assert_allclose(model.layers[0].kernel, a, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(model.layers[1].kernel, b, rtol=2e-4, atol=2e-5)


def state(model):
    return [*weights(model).values(), *(np.array(variable) for variable in model.optimizer.variables)]


@pytest.mark.parametrize("kind", ["model", "distiller"])
def test_a_killed_training_resumes(kind, tmp_path):
    """Killed in the epoch that unfreezes, and in the one after the next boundary."""

    def callbacks():
        return unfreeze_gradually(BOUNDARIES, rate_factor=0.5), Resume(tmp_path, every_seconds=0, keep_finished=True)

    whole = make(kind)
    fit(whole, unfreeze_gradually(BOUNDARIES, rate_factor=0.5))
    with pytest.raises(Killed):
        fit(make(kind), *callbacks(), Watch(kill_in=2))
    with pytest.raises(Killed):
        fit(make(kind), *callbacks(), Watch(kill_in=4))
    resumed = make(kind)
    fit(resumed, *callbacks())
    for one, other in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_resumes_with_the_same_boundaries_alone(tmp_path):
    with pytest.raises(Killed):
        fit(make(), unfreeze_gradually(BOUNDARIES), Resume(tmp_path, every_seconds=0), Watch(kill_in=2))
    with pytest.raises(ConfigurationError, match="another training.*GradualUnfreezing.boundaries"):
        fit(make(), unfreeze_gradually({0: "block_2", 3: None}), Resume(tmp_path, every_seconds=0))


def test_a_second_fit_continues(tmp_path):
    """The step of the first one must not be used again: in the second epoch 0, the layers are frozen again."""
    model, watch = make(compiled=True), Watch()
    unfreezing = unfreeze_gradually(BOUNDARIES)
    fit(model, unfreezing, watch, epochs=3)
    fit(model, unfreezing, watch, epochs=4, initial_epoch=3)
    fit(model, unfreezing, watch, epochs=1)
    assert watch.changed == [*TRAINED[:3], LAYERS, TRAINED[0]]


def test_mixed_precision_with_a_loss_scale():
    keras.utils.set_random_seed(7)
    model, watch = network(dtype="mixed_float16"), Watch()
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=8.0),
        loss="mse",
        run_eagerly=True,
    )
    fit(model, unfreeze_gradually({0: "block_2", 1: None}, rate_factor=0.5), watch, epochs=2)
    assert watch.changed == [TRAINED[0], LAYERS] and watch.rates == [0.01, 0.005]


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        ({}, "beginning with epoch 0"),
        ({1: "block_1"}, "beginning with epoch 0"),
        ({0: None}, "beginning with epoch 0"),
        (["block_1"], "beginning with epoch 0"),
        ({0: 3}, "beginning with epoch 0"),
        ({0: "block_1", -1: None}, "Invalid 'epoch'"),
        ({0: "block_1", 1.5: None}, "Invalid 'epoch'"),
    ],
)
def test_boundaries_that_are_not_boundaries(boundaries, message):
    with pytest.raises(ConfigurationError, match=message):
        unfreeze_gradually(boundaries)


@pytest.mark.parametrize(
    ("boundaries", "optimizer", "factor", "message"),
    [
        ({0: "blok_2"}, "adam", 1.0, "Did you mean 'block_2'"),
        ({0: "block_1", 1: "block_2"}, "adam", 1.0, "boundary of epoch 1 is not below"),
        ({0: "block_2", 1: "block_2"}, "adam", 1.0, "boundary of epoch 1 is not below"),
        ({0: "head", 1: None}, "adam", 1.0, "leave nothing to train"),
        (BOUNDARIES, "ema", 1.0, "averages of weights"),
        (BOUNDARIES, "schedule", 0.5, "A schedule sets the learning rate"),
    ],
)
def test_what_is_refused_when_training_begins(boundaries, optimizer, factor, message):
    model = make(optimizer=optimizer)
    with pytest.raises(ConfigurationError, match=message):
        unfreeze_gradually(boundaries, rate_factor=factor).prepare(model)
    assert all(layer.trainable for layer in model.layers)


def test_an_optimizer_that_has_trained_some_weights():
    model = make()
    freeze(model, until="block_1")
    fit(model, epochs=1)
    with pytest.raises(
        ConfigurationError, match="made steps without the weights to be unfrozen.*Compile the model again"
    ):
        fit(model, unfreeze_gradually(BOUNDARIES))


def test_a_model_that_is_not_compiled():
    with pytest.raises(ConfigurationError, match="not compiled"):
        unfreeze_gradually(BOUNDARIES).prepare(network())
