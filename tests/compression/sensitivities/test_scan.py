"""The scan of a model's layers, against weights changed by hand; and settings for a target."""

import json
import os
import sys
import zlib
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.compression.sensitivities.choosing import choose
from keras_kd.compression.sensitivities.table import LayerCosts, SensitivityTable
from keras_kd.compression.sensitivities.targets import parse_target
from keras_kd.errors import ConfigurationError

sensitivity = kd.compression.sensitivity


@pytest.fixture(scope="module")
def trained():
    """A model with a nested one that is trained on random clusters, and test data."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(5, 16))
    y = rng.integers(0, 5, 600)
    x = (centers[y] + 0.9 * rng.normal(size=(600, 16))).astype("float32")
    block = keras.Sequential([keras.Input((16,)), layers.Dense(32, "relu", name="wide")], name="block")
    entry = keras.Input((16,))
    frozen = layers.Dense(16, trainable=False, kernel_initializer="identity", name="frozen")(entry)
    h = layers.BatchNormalization(name="norm")(block(frozen))
    model = keras.Model(entry, layers.Dense(5, "softmax", name="head")(h), name="net")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:300], y[:300], epochs=6, verbose=0)
    return model, (x[300:], y[300:])


def weights_of(model):
    return [weight.numpy().tobytes() for weight in (*model.weights, *model.optimizer.variables)]


def accuracy(model, data):
    return float(np.mean(model.predict(data[0], verbose=0).argmax(-1) == data[1]))


def pruned(kernel, sparsity):
    values = kernel.copy()
    order = np.argsort(-np.abs(values), axis=None, kind="stable")
    values.flat[order[round(values.size * (1 - sparsity)) :]] = 0
    return values


def rounded(kernel, bits):
    scale = np.abs(kernel).max(axis=0) / (2 ** (bits - 1) - 1)
    scale = np.where(scale == 0, 1, scale)
    return np.round(kernel / scale) * scale


def test_each_drop_is_that_of_the_layer_changed_by_hand(trained, capsys):
    model, data = trained
    before = weights_of(model)
    table = sensitivity(model, data, sparsities=[0.9, 0.5], bits=[2, 8], verbose=False).table
    assert weights_of(model) == before and capsys.readouterr().out == ""
    assert [layer.path for layer in table.layers] == ["block/wide", "head"]
    assert table["block/wide"].num_weights == 512 and table.num_examples == 300 and table.unit == "points"
    assert table.baseline == pytest.approx(accuracy(model, data), abs=1e-9)
    copy = keras.models.clone_model(model)
    for path, layer in {"block/wide": copy.get_layer("block").layers[0], "head": copy.get_layer("head")}.items():
        copy.set_weights(model.get_weights())
        kernel = layer.kernel.numpy()
        for change, costs in ((pruned, table[path].by_sparsity), (rounded, table[path].by_bits)):
            for setting, drop in costs.items():
                layer.kernel.assign(change(kernel, setting))
                assert drop == pytest.approx(100 * (table.baseline - accuracy(copy, data)), abs=0.35), (path, setting)
    assert max(max(row) for row in table.drops) > 2
    assert table.columns == ("50% zeros", "90% zeros", "8 bits", "2 bits")


def test_the_model_is_as_before_after_ctrl_c(trained):
    model, data = trained
    before = weights_of(model)
    calls = []

    def interrupted(outputs, labels):
        calls.append(outputs)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return float(np.mean(outputs.argmax(-1) == labels))

    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, data, measure=interrupted, verbose=False)
    assert len(calls) == 4 and weights_of(model) == before and model.get_layer("frozen").trainable is False


def test_a_target_becomes_settings_that_hold_when_they_are_applied(trained):
    model, data = trained
    found = sensitivity(model, data, target="size<1.6kB, accuracy_drop<2", verbose=False)
    settings = found.settings
    assert settings.reached and settings.num_bytes < 1600 and settings.drop < 2
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    size = 0
    kernels = {"block/wide": copy.get_layer("block").layers[0].kernel, "head": copy.get_layer("head").kernel}
    for path, variable in kernels.items():
        values = pruned(variable.numpy(), settings.sparsity[path]) if path in settings.sparsity else variable.numpy()
        content = values.tobytes()
        if path in settings.bits:
            grid = rounded(values, settings.bits[path])
            scale = np.abs(values).max(axis=0) / (2 ** (settings.bits[path] - 1) - 1)
            content = np.round(grid / np.where(scale == 0, 1, scale)).astype("int8").tobytes()
            values, size = grid, size + 4 * len(scale)
        variable.assign(values)
        size += len(zlib.compress(content, 6))
    others = [weight for weight in copy.weights if not any(weight is variable for variable in kernels.values())]
    assert settings.num_bytes == size + sum(len(zlib.compress(weight.numpy().tobytes(), 6)) for weight in others)
    assert settings.value == pytest.approx(accuracy(copy, data), abs=0.004)
    assert settings.drop == pytest.approx(100 * (settings.baseline - settings.value))
    assert "reached" in str(found) and json.loads(json.dumps(found.to_dict()))["settings"]["bits"] == settings.bits
    small = found.choose("accuracy_drop<2")
    assert small.reached and small.drop < 2 and small.num_bytes <= settings.num_bytes
    if small.sparsity:
        sparse = kd.compression.Pruning(small.sparsity).apply(model, verbose=False)
        assert set(kd.compression.sparsity(sparse)) == {f"{path}/kernel" for path in small.sparsity}


def test_a_target_out_of_reach_says_so(trained):
    model, data = trained
    found = sensitivity(model, data, sparsities=[0.5], bits=[8], verbose=False)
    with pytest.warns(UserWarning, match="NOT REACHED: the smallest size with these settings is"):
        settings = found.choose("size<1kB")
    assert not settings.reached and settings.num_bytes > 1000
    assert "NOT REACHED" in str(settings)


class Interacting:
    """Two layers of 100 bytes that lose nothing alone; the strongest options together lose 50 points."""

    baseline = 0.9
    quality = SimpleNamespace(name="accuracy", unit="points")
    layers = ("one", "two")

    def __init__(self):
        self.measured = []

    def other_bytes(self):
        return 10

    def num_bytes(self, path, setting):
        return round(100 * (1 - setting.sparsity))

    def value(self, settings):
        self.measured.append(dict(settings))
        strong = sum(setting.sparsity >= 0.9 for setting in settings.values())
        return 0.4 if strong == 2 else 0.9


def drop(before, after):
    return 100 * (before - after)


TABLE = SensitivityTable(
    "accuracy",
    "points",
    0.9,
    10,
    tuple(LayerCosts(path, "Dense", 25, {0.5: 0.1, 0.9: cost}, {}) for path, cost in (("one", 0.2), ("two", 0.3))),
)


def test_a_combination_that_costs_more_than_its_layers_backs_off():
    measured = Interacting()
    settings = choose(measured, TABLE, parse_target("size<75, accuracy_drop<1", "accuracy"), drop)
    assert settings.reached and settings.sparsity == {"one": 0.9, "two": 0.5}
    assert settings.num_bytes == 70 and settings.float_bytes == 210
    assert measured.measured[-1].keys() == {"one", "two"}
    small = choose(Interacting(), TABLE, parse_target("accuracy_drop<1", "accuracy"), drop)
    assert small.reached and small.drop == 0 and sorted(small.sparsity.values()) != [0.9, 0.9]
    none = choose(Interacting(), TABLE, parse_target("size<40, accuracy_drop<1", "accuracy"), drop)
    assert not none.reached and none.problem == "the smallest drop measured at this size is 50.00"


def test_measures_of_other_tasks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="one"), layers.Dense(1, name="two")])
    y = model.predict(x, verbose=0)
    table = sensitivity(model, (x, y), task="regression", sparsities=[0.5], bits=[4], verbose=False).table
    assert table.measure == "root_mean_squared_error" and table.unit == "" and table.baseline < 1e-6
    assert min(map(min, table.drops)) > 0  # lower is better, and a drop is worse
    batches = [(x[:24], y[:24]), (x[24:], y[24:]), (x[:0], y[:0])]
    other = sensitivity(
        model, batches, task="regression", measure="mean_absolute_error", sparsities=[0.5], bits=[], verbose=False
    ).table
    assert other.measure == "mean_absolute_error" and other.num_examples == 40
    assert str(other).startswith("Drop of mean_absolute_error, from")


def test_layers_that_are_not_scanned_count_in_the_size():
    found = [
        sensitivity(two_layers(), (X, Y), sparsities=[0.5], bits=[], target="size<1MB", verbose=False, **settings)
        for settings in ({}, {"skip": ["two"]})
    ]
    assert found[0].settings.float_bytes == found[1].settings.float_bytes


def two_layers():
    return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one"), layers.Dense(3, name="two")])


X, Y = np.zeros((6, 4), "float32"), np.zeros(6, int)


def not_a_number(outputs, labels):
    return float("nan")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsities": [1.5]}, "Invalid 'sparsities'.*1.5"),
        ({"sparsities": [0]}, "Invalid 'sparsities'"),
        ({"sparsities": 0.5}, "Invalid 'sparsities'.*a list"),
        ({"sparsities": [float("nan")]}, "Invalid 'sparsities'"),
        ({"bits": [1]}, "Invalid 'bits'.*1"),
        ({"bits": [4.0]}, "Invalid 'bits'"),
        ({"bits": [], "sparsities": []}, "Nothing to scan"),
        ({"skip": ["three"]}, "'skip' names a layer"),
        ({"skip": ["one", "two"]}, "leaves no layer"),
        ({"target": "size<"}, "Invalid 'target'"),
        ({"measure": "recall"}, "Unknown measure.*'recall'"),
        ({"task": "sorting"}, "Unknown task"),
        ({"batch_size": 0}, "batch_size"),
        ({"data": (X, Y[:3])}, "Inputs and labels do not fit.*6.*3"),
        ({"data": (X[:0], Y[:0])}, "at least one example"),
        ({"data": 3}, "Invalid 'data'"),
        ({"data": (X, Y, Y)}, "Invalid 'data'"),
        ({"measure": not_a_number}, "not a finite number.*no layer compressed"),
        ({"measure": lambda outputs, labels: "good"}, "'measure' does not return a number.*'good'"),
    ],
    ids=lambda value: value.split("'")[0] if isinstance(value, str) else ", ".join(value),
)
def test_a_wrong_setting_is_an_error(settings, message):
    settings = {"data": (X, Y), "verbose": False} | settings
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        sensitivity(two_layers(), settings.pop("data"), **settings)


def test_a_data_set_that_does_not_end_is_an_error():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)
    assert sensitivity(two_layers(), data, sparsities=[0.5], bits=[], verbose=False).table.num_examples == 6
    with pytest.raises(ConfigurationError, match="does not end"):
        sensitivity(two_layers(), data.repeat(), verbose=False)


def test_a_model_that_cannot_be_scanned_is_an_error():
    frozen = two_layers()
    frozen.trainable = False
    with pytest.raises(ConfigurationError, match="no layer that can be compressed"):
        sensitivity(frozen, (X, Y))
    with pytest.raises(ConfigurationError, match="compressed already"):
        sensitivity(kd.compression.Pruning(0.5).apply(two_layers(), verbose=False), (X, Y))
    with pytest.raises(ConfigurationError, match="Only a model"):
        sensitivity(3, (X, Y))


SCRIPT = """
import keras, numpy as np, keras_kd as kd
half = keras.layers.Dense(6, dtype="mixed_float16", name="a")
model = keras.Sequential([keras.Input((8,)), half, keras.layers.Dense(3)])
x = np.random.default_rng(0).normal(size=(50, 8)).astype("float32")
y = model.predict(x, verbose=0).argmax(-1)
found = kd.compression.sensitivity(model, (x, y), target="accuracy_drop<5", verbose=False)
print(keras.backend.backend(), found.table.baseline, found.table["a"].by_bits[8] < 5, found.settings.reached)
"""


@pytest.mark.long
def test_on_jax(start):
    child = start(sys.executable, "-c", SCRIPT, env={**os.environ, "KERAS_BACKEND": "jax"}).wait()
    assert child.stdout.splitlines()[-1:] == ["jax 1.0 True True"], child.stderr[-2000:]
