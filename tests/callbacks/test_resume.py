"""A killed training resumes bit-exactly, whatever files the kill left."""

import json
import types

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import files
from keras_kd.callbacks import Resume
from keras_kd.errors import ConfigurationError
from keras_kd.schedules import Cosine

EPOCHS = 4


class Killed(BaseException):
    """Simulates kill -9."""


@pytest.fixture
def make_distiller(make_model):
    """Makes identical distillers with dropout, batch normalization, Adam with a decaying rate, and a decaying alpha.

    The step runs eagerly, as compiling takes longer than these few steps; `tests/recipes` resumes compiled ones.
    """

    def make():
        keras.utils.set_random_seed(3)
        student = make_model(4, dropout=0.3, norm=True)
        distiller = kd.Distiller(make_model(8), student, alpha=Cosine(0.9, 0.1, steps=16))
        rate = keras.optimizers.schedules.CosineDecay(0.01, 16)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"], run_eagerly=True)
        return distiller

    return make


@pytest.fixture
def fit(digits):
    def fit(model, *callbacks, first_epoch=0, epochs=EPOCHS):
        x, y = digits[0][:64], digits[1][:64]
        settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "validation_data": (x[:32], y[:32])}
        history = model.fit(x, y, initial_epoch=first_epoch, epochs=epochs, callbacks=list(callbacks), **settings)
        return history.history

    return fit


class KillAt(keras.callbacks.Callback):
    """Kills the training in an epoch, after the second batch."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == self._epoch and batch == 1:
            raise Killed


def state(model):
    return [*model.get_weights(), *(np.array(variable) for variable in model.optimizer.variables)]


def assert_same(model, expected):
    for one, other in zip(state(model), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def whole(make_distiller, fit):
    """The final state and history of an uninterrupted training."""
    distiller = make_distiller()
    history = fit(distiller)
    return state(distiller), history


def test_killed_in_an_epoch(make_distiller, fit, whole, tmp_path):
    """Killed twice in the same epoch and once in the next."""
    folder = tmp_path / "new" / "state"
    for killed_in, expected in ((2, 0), (2, 2), (3, 2)):
        resume, distiller = Resume(folder, every_seconds=0), make_distiller()
        assert resume.restore(distiller) == expected
        with pytest.raises(Killed):
            fit(distiller, resume, KillAt(killed_in), first_epoch=expected)
    resume, distiller = Resume(folder, every_seconds=0), make_distiller()
    assert resume.restore(distiller) == 3
    assert int(distiller.optimizer.iterations) == 3 * 4
    fit(distiller, resume, first_epoch=3)
    assert_same(distiller, whole[0])
    assert resume.history == whole[1]
    assert [len(values) for values in resume.history.values()] == [EPOCHS] * len(whole[1])
    assert list(folder.parent.iterdir()) == []  # the training has finished


def test_killed_with_an_adversary(make_model, fit, tmp_path):
    """A random start depends on the optimizer's step, so a resumed training draws the same ones."""

    def make(steps=2):
        keras.utils.set_random_seed(3)
        adversary = kd.adversaries.PGD(0.1, steps=steps)
        distiller = kd.Distiller(make_model(8), make_model(4, norm=True), adversary=adversary)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.Adam(0.01), loss=loss, run_eagerly=True)
        return distiller

    expected = make()
    fit(expected, epochs=2)
    with pytest.raises(Killed):
        fit(make(), Resume(tmp_path, every_seconds=0), KillAt(1), epochs=2)
    with pytest.raises(ConfigurationError, match="adversary.*steps"):
        fit(make(steps=3), Resume(tmp_path), epochs=2)
    resumed = make()
    fit(resumed, Resume(tmp_path), epochs=2)
    assert_same(resumed, state(expected))


def test_killed_after_the_last_epoch(make_distiller, fit, whole, tmp_path):
    fit(make_distiller(), Resume(tmp_path, keep_finished=True))
    for by_hand in (True, False):
        resume, distiller = Resume(tmp_path, keep_finished=True), make_distiller()
        first = resume.restore(distiller) if by_hand else 0
        assert first == (EPOCHS if by_hand else 0)
        assert fit(distiller, resume, first_epoch=first) == whole[1]
        assert_same(distiller, whole[0])
        assert resume.history == whole[1]


@pytest.fixture
def saved(make_model, fit, tmp_path):
    """A folder with the state after one epoch, and a function that makes its model."""

    def make():
        keras.utils.set_random_seed(1)
        model = make_model(4, dropout=0.2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss=loss, run_eagerly=True)
        return model

    folder = tmp_path / "state"
    model = make()
    fit(model, Resume(folder, keep_finished=True), epochs=1)
    return types.SimpleNamespace(folder=folder, make=make, expected=state(model))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def of(*epochs):
    return sorted(f"epoch-{epoch}.{kind}" for epoch in epochs for kind in ("weights.h5", "json"))


def test_the_two_newest_states_are_kept(saved, fit):
    assert names(saved.folder) == of(1)
    fit(saved.make(), Resume(saved.folder, every_seconds=0, keep_finished=True), epochs=3)
    assert names(saved.folder) == of(2, 3)


@pytest.mark.parametrize(
    ("owner", "method", "left"),
    [
        (keras.Model, "save_weights", ["epoch-2.weights.h5"]),
        (files, "move", ["epoch-2.weights.h5"]),
    ],
)
def test_a_kill_during_a_save_keeps_the_previous_save(owner, method, left, saved, fit, monkeypatch):
    original = getattr(owner, method)

    def killed(first, file):
        if owner is keras.Model:
            original(first, file)
            file.write_bytes(file.read_bytes()[:40])
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, method, killed)
        fit(saved.make(), Resume(saved.folder, every_seconds=0), epochs=2)
    assert names(saved.folder) == sorted([*of(1), *left])
    model, resume = saved.make(), Resume(saved.folder)
    assert resume.restore(model) == 1
    assert_same(model, saved.expected)
    resume.clear()
    assert not saved.folder.exists()


def test_stray_files_are_ignored(saved, fit):
    (saved.folder / "epoch-7.weights.h5").write_bytes(b"half a file")
    (saved.folder / ".partial-0-epoch-7.json").write_text('{"epoch": 7')
    fit(saved.make(), Resume(saved.folder, every_seconds=0, keep_finished=True), epochs=2)
    assert names(saved.folder) == of(1, 2)


def test_clear_keeps_other_files(saved):
    (saved.folder / "notes.txt").write_text("mine")
    (saved.folder / "best.weights.h5").write_text("mine, too")
    resume = Resume(saved.folder)
    resume.clear()
    assert names(saved.folder) == ["best.weights.h5", "notes.txt"]
    assert resume.restore(saved.make()) == 0
    resume.clear()


def test_nothing_saved(tmp_path, saved):
    resume = Resume(tmp_path / "none")
    assert (resume.restore(saved.make()), resume.history) == (0, {})
    resume.clear()
    assert not (tmp_path / "none").exists()


def test_saves_are_at_least_every_seconds_apart(saved, fit, tmp_path, monkeypatch):
    """With four seconds per epoch and at least ten seconds between saves."""
    clock = iter(range(0, 1000, 4))
    now = [0]

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            now[0] = next(clock) + 4

    monkeypatch.setattr("keras_kd.callbacks.resume.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    saves = []
    monkeypatch.setattr(Resume, "_save", lambda resume, epoch: saves.append(epoch))
    fit(saved.make(), Clock(), Resume(tmp_path / "clock", every_seconds=10), epochs=7)
    assert saves == [3, 6, 7]


def test_dropout_continues_its_random_sequence(saved):
    """Keras' own weight files omit the random state."""
    stored = json.loads((saved.folder / "epoch-1.json").read_text())["state"]["random"]
    assert len(stored) == 1 and stored[0][1] == 4  # four batches drew random numbers
    model = saved.make()
    Resume(saved.folder).restore(model)
    (seed,) = [layer.seed_generator for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert np.array(seed.state).tolist() == stored[0]


def test_the_state_of_another_model_is_rejected(saved, make_model):
    model = make_model(6)
    model.compile("adam", loss="mse")
    with pytest.raises(ConfigurationError, match=r"another training.*Conv2D \(3, 3, 1, 6\).*Conv2D \(3, 3, 1, 4\)"):
        Resume(saved.folder).restore(model)
