"""The checkpoints of a teacher's training: when they are written, and that they are complete."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import Resume, Snapshots
from keras_kd.errors import ConfigurationError

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), loss="mse", run_eagerly=True)
    return model


class Weights(keras.callbacks.Callback):
    """Records the weights after each epoch."""

    def on_train_begin(self, logs=None):
        self.seen = {}

    def on_epoch_end(self, epoch, logs=None):
        self.seen[f"epoch-{epoch + 1:04d}.keras"] = self.model.get_weights()


def fit(*callbacks, epochs=7, model=None, **settings):
    model = model or make_model()
    return model.fit(X, Y, epochs=epochs, batch_size=12, shuffle=False, verbose=0, callbacks=[*callbacks], **settings)


def names(save):
    return [path.name for path in save.paths]


def test_every_few_epochs_and_at_the_end(tmp_path):
    save, weights = Snapshots(tmp_path / "new", every_epochs=3, last=True), Weights()
    fit(save, weights)
    assert names(save) == [f"epoch-000{number}.keras" for number in (3, 6, 7)]
    for path in save.paths:
        for one, other in zip(keras.models.load_model(path).get_weights(), weights.seen[path.name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(names(save))
    fit(save, epochs=6)
    assert len(names(save)) == 2


def test_a_longer_training_leaves_out_the_end_of_a_shorter_one(tmp_path):
    for settings in ({"every_epochs": 3}, {"every_drop": 0.5}):
        whole = Snapshots(tmp_path / "whole", last=True, **settings)
        fit(whole, epochs=8)
        for epochs in (4, 8):
            save = Snapshots(tmp_path / "parts", last=True, **settings)
            fit(save, Resume(tmp_path / "state", every_seconds=0, keep_finished=True), epochs=epochs)
        assert names(save) == names(whole)
        Resume(tmp_path / "state").clear()


def test_by_the_fall_of_the_loss(tmp_path):
    save = Snapshots(tmp_path, every_drop=0.5, last=True)
    losses = fit(save, epochs=12).history["loss"]
    expected, last = [], np.inf
    for number, loss in enumerate(losses, start=1):
        if loss <= last - 0.5:
            expected.append(f"epoch-{number:04d}.keras")
            last = loss
    assert names(save) == list(dict.fromkeys([*expected, "epoch-0012.keras"])) and 2 < len(expected) < 12


def test_nothing_is_left_of_a_failed_save(tmp_path, monkeypatch):
    def fail(self, path):
        path.write_bytes(b"half")
        raise RuntimeError("killed")

    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(RuntimeError, match="killed"):
        fit(Snapshots(tmp_path, every_epochs=1, last=True))
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    pass


class KillAt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 4:
            raise Killed


def test_a_resumed_training_has_the_same_route(tmp_path):
    unbroken = Snapshots(tmp_path / "one", every_drop=0.5, last=True)
    fit(unbroken)
    with pytest.raises(Killed):
        fit(
            Snapshots(tmp_path / "other", every_drop=0.5, last=True),
            KillAt(),
            Resume(tmp_path / "state", every_seconds=0),
        )
    resumed = Snapshots(tmp_path / "other", every_drop=0.5, last=True)
    fit(resumed, Resume(tmp_path / "state", every_seconds=0))
    assert names(resumed) == names(unbroken)
    for one, other in zip(resumed.paths, unbroken.paths, strict=True):
        weights = (keras.models.load_model(path).get_weights() for path in (one, other))
        for a, b in zip(*weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_student_of_a_distiller_is_saved(tmp_path):
    distiller = kd.Distiller(make_model(), make_model(), losses="output_regression")
    distiller.compile("sgd", loss="mse", run_eagerly=True)
    save = Snapshots(tmp_path, every_epochs=5, last=True)
    fit(save, model=distiller, epochs=1)
    assert isinstance(keras.models.load_model(save.paths[0], compile=False), keras.Sequential)


@pytest.mark.parametrize(
    "settings", [{}, {"every_epochs": 2, "every_drop": 1.0}, {"every_epochs": 0}, {"every_drop": 0.0}]
)
def test_settings(tmp_path, settings):
    with pytest.raises(ConfigurationError):
        Snapshots(tmp_path, **settings)


def test_a_missing_value_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="'val_loss'.*'loss'"):
        fit(Snapshots(tmp_path, every_drop=0.1, monitor="val_loss"))
