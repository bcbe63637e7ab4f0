"""Snapshots of a training and their ensemble; killed trainings, and folders with other files."""

import zipfile

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import Resume, Snapshots
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.schedules import CosineRestarts, LearningRate
from keras_kd.teachers import Batch, Ensemble

L = keras.layers


def make(kind="model"):
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, activation="relu"), L.Dense(3)])
    if kind == "distiller":
        model = kd.Distiller(keras.Sequential([keras.Input((4,)), L.Dense(3)]), model)
    rate = LearningRate(CosineRestarts(0.5, 0.0, steps=4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss=loss, run_eagerly=True)
    return model


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, np.argmax(x[:, :3], -1)


class Killed(BaseException):
    """Simulates kill -9."""


class Keep(keras.callbacks.Callback):
    """The weights after each epoch; may kill the training in an epoch."""

    def __init__(self, kill_in=None):
        super().__init__()
        self.weights, self.kill_in = [], kill_in

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.kill_in:
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(getattr(self.model, "student", self.model).get_weights())


def fit(model, *callbacks, epochs=6, **settings):
    model.fit(*data(), batch_size=8, shuffle=False, epochs=epochs, verbose=0, callbacks=list(callbacks), **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["model", "distiller"])
def test_each_snapshot_has_the_weights_of_the_end_of_its_cycle(kind, tmp_path):
    model, keep, snapshots = make(kind), Keep(), Snapshots(tmp_path / "new", every_epochs=2)
    optimizer = model.optimizer
    fit(model, keep, snapshots, epochs=7)
    assert names(tmp_path / "new") == [f"epoch-000{number}.keras" for number in (2, 4, 6)]
    for path, weights in zip(snapshots.paths, keep.weights[1::2], strict=True):
        loaded = keras.models.load_model(path)
        assert_same(loaded.get_weights(), weights)
        assert not loaded.compiled and "SGD" not in zipfile.ZipFile(path).read("config.json").decode()
    assert model.compiled and model.optimizer is optimizer


@pytest.mark.parametrize("kind", ["model", "distiller"])
def test_killed_and_resumed(kind, tmp_path):
    keep = Keep()
    fit(make(kind), keep)
    for epoch in (3, 4):
        with pytest.raises(Killed):
            fit(
                make(kind),
                Snapshots(tmp_path / "s", every_epochs=2),
                Resume(tmp_path / "r", every_seconds=0),
                Keep(epoch),
            )
    snapshots = Snapshots(tmp_path / "s", every_epochs=2)
    fit(make(kind), snapshots, Resume(tmp_path / "r", every_seconds=0))
    for path, weights in zip(snapshots.paths, keep.weights[1::2], strict=True):
        assert_same(keras.models.load_model(path).get_weights(), weights)


def test_a_kill_while_a_file_is_written(tmp_path, monkeypatch):
    def killed(model, path):
        path.write_bytes(b"half a file")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(keras.Sequential, "save", killed)
        fit(make(), Snapshots(tmp_path, every_epochs=1))
    assert names(tmp_path) == []
    (tmp_path / ".partial-0-epoch-0001.keras").write_bytes(b"half a file, and no time to remove it")
    fit(make(), Snapshots(tmp_path, every_epochs=1), epochs=1)
    assert names(tmp_path) == ["epoch-0001.keras"]


def test_a_shorter_training_does_not_leave_the_snapshots_of_a_longer_one(tmp_path):
    (tmp_path / "best.keras").write_text("mine")
    fit(make(), Snapshots(tmp_path, every_epochs=2))
    fit(make(), Snapshots(tmp_path, every_epochs=2), epochs=2)
    assert names(tmp_path) == ["best.keras", "epoch-0002.keras"]


def test_missing_snapshots_are_reported(tmp_path):
    with pytest.warns(Notice, match=r"after epoch 2, but .* lacks the snapshots of the epochs \[1, 2\]"):
        fit(make(), Snapshots(tmp_path, every_epochs=1), epochs=3, initial_epoch=2)


@pytest.mark.parametrize("every", [0, 1.5, None, True])
def test_a_wrong_cycle(every, tmp_path):
    with pytest.raises(ConfigurationError, match="every_epochs"):
        Snapshots(tmp_path, every_epochs=every)


# The ensemble.


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        keras.utils.set_random_seed(number)
        keras.Sequential([keras.Input((4,)), L.Dense(3)]).save(tmp_path / f"snapshot-{number}.keras")
    (tmp_path / ".partial-0-snapshot-3.keras").write_bytes(b"half a file")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(("last", "numbers"), [(None, (1, 2, 10)), (2, (2, 10)), (1, (10,))])
def test_the_mean_of_the_probabilities(folder, last, numbers):
    """In the order of the numbers, not of the letters."""
    ensemble = Ensemble.from_folder(folder, last=last)
    x, _ = data()
    logits = [np.asarray(keras.models.load_model(folder / f"snapshot-{n}.keras")(x), "float64") for n in numbers]
    mean = np.mean([np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in logits], 0)
    z = np.asarray(ensemble(Batch(x)).outputs["output"], "float64")
    np.testing.assert_allclose(np.exp(z) / np.exp(z).sum(-1, keepdims=True), mean, atol=1e-6)


def test_settings_of_the_ensemble(folder):
    assert Ensemble.from_folder(folder, weights=[2, 1, 1], combine="logits").weights == (0.5, 0.25, 0.25)


@pytest.mark.parametrize(("last", "message"), [(4, "3 .keras files.*at least 4"), (0, "Invalid 'last'")])
def test_too_few_members(folder, last, message):
    with pytest.raises(ConfigurationError, match=message):
        Ensemble.from_folder(folder, last=last)


def test_no_folder_and_a_damaged_member(folder):
    with pytest.raises(ConfigurationError, match="0 .keras files"):
        Ensemble.from_folder(folder / "none")
    (folder / "snapshot-2.keras").write_bytes(b"half a file")
    with pytest.raises(TeacherError, match="snapshot-2.keras, which is damaged"):
        Ensemble.from_folder(folder)
