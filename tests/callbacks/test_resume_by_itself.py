"""`fit(callbacks=[Resume(folder)])`, run again after a kill, gives the result of an uninterrupted run."""

import types
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import Resume, TFLiteExport
from keras_kd.data import Pipeline
from keras_kd.errors import ConfigurationError, Notice

EPOCHS = 6


class Killed(BaseException):
    """Simulates kill -9."""


class KillAt(keras.callbacks.Callback):
    """Kills after an epoch's first batch, at its end (only a last `Resume` runs later), or when the training ends."""

    def __init__(self, epoch, where):
        super().__init__()
        self._epoch, self._where = epoch, where

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._where == "batch" and self._now == self._epoch and batch == 0:
            raise Killed

    def on_epoch_end(self, epoch, logs=None):
        if self._where == "epoch end" and epoch == self._epoch:
            raise Killed

    def on_train_end(self, logs=None):
        if self._where == "train end":
            raise Killed


class Script(keras.callbacks.Callback):
    """Logs a value that improves first and then gets worse."""

    values = (5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 3.8, 3.9)

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values[epoch]


def network(width):
    """A digits model with dropout, small enough for many trainings; the caller compiles it."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(width), keras.layers.Dropout(0.3)]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def compiled(model, optimizer=None):
    """Compiles the model to run eagerly: tracing takes longer than these few steps."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss=loss, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def training(digits):
    """A training with all stateful callbacks: `make(folder)` returns model and callbacks, `run` fits."""
    teacher = network(6)
    x, y = digits[0][:32], digits[1][:32]

    def make(folder, *, alpha=0.7, patience=2, optimizer=None, width=4, temperature=2.0):
        keras.utils.set_random_seed(3)
        distiller = compiled(kd.Distiller(teacher, network(width), alpha=alpha, temperature=temperature), optimizer)
        memory = [
            keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
            keras.callbacks.ModelCheckpoint(folder / "best.weights.h5", save_best_only=True, save_weights_only=True),
        ]
        return distiller, memory

    def pipeline():
        return Pipeline((x, y), batch_size=16, augment=kd.data.Flip())

    def run(folder, *kill, data=None, epochs=EPOCHS, keep_finished=False, first=True, **settings):
        """Fits with `Resume` either before the callbacks whose state it saves, or last."""
        folder.mkdir(exist_ok=True)
        distiller, memory = make(folder, **settings)
        resume = Resume(folder / "state", every_seconds=0, keep_finished=keep_finished)
        callbacks = [Script(), *memory, *(KillAt(*moment) for moment in kill)]
        callbacks = [resume, *callbacks] if first else [*callbacks, resume]
        history = distiller.fit(data or pipeline(), epochs=epochs, callbacks=callbacks, verbose=0)
        return types.SimpleNamespace(model=distiller, memory=memory, history=history, resume=resume)

    return types.SimpleNamespace(run=run, make=make, pipeline=pipeline, x=x, y=y)


def weights(model):
    return [*model.get_weights(), *(np.array(variable) for variable in model.optimizer.variables)]


def remembered(memory):
    early, reduce, checkpoint = memory
    return {
        "early": (early.wait, early.stopped_epoch, early.best, early.best_epoch),
        "reduce": (reduce.best, reduce.wait, reduce.cooldown_counter),
        "checkpoint": checkpoint.best,
    }


def assert_same(run, expected):
    for one, other in zip(weights(run.model), weights(expected.model), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(run.memory[0].best_weights, expected.memory[0].best_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert remembered(run.memory) == remembered(expected.memory)
    assert run.history.history == expected.history.history == run.resume.history
    assert run.history.epoch == expected.history.epoch


@pytest.fixture(scope="module")
def whole(training, tmp_path_factory):
    """An uninterrupted run, stopped by EarlyStopping after its fifth epoch, two after the best one."""
    folder = tmp_path_factory.mktemp("whole")
    run = training.run(folder)
    assert run.history.epoch == [0, 1, 2, 3, 4]
    assert [file.name for file in folder.iterdir()] == ["best.weights.h5"]
    run.best = folder / "best.weights.h5"
    return run


@pytest.fixture(scope="module")
def killed(training, tmp_path_factory):
    """A folder with the states after one and two epochs; tests must not write to it."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        training.run(folder, (2, "batch"))
    return folder


@pytest.mark.parametrize(
    ("first", "kills"),
    [(True, [(1, "batch")]), (False, [(2, "batch"), (3, "epoch end")]), (True, [(0, "batch"), (4, "epoch end")])],
)
def test_a_killed_training_resumes_as_if_never_stopped(first, kills, training, whole, tmp_path):
    for kill in kills:
        with pytest.raises(Killed):
            training.run(tmp_path, kill, first=first)
    resumed = training.run(tmp_path, first=first)
    assert_same(resumed, whole)
    assert [file.name for file in tmp_path.iterdir()] == ["best.weights.h5"]
    best = []
    for file in (tmp_path / "best.weights.h5", whole.best):
        model = training.make(tmp_path)[0]
        model.optimizer.build(model.trainable_variables)
        model.load_weights(file)
        best.append(weights(model))
    for one, other in zip(*best, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("keep_finished", [True, False])
def test_a_training_ended_by_early_stopping_is_not_continued(keep_finished, training, whole, tmp_path):
    """Killed where the best weights are restored, before `fit` returns."""
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        training.run(folder, (None, "train end"), keep_finished=keep_finished)
    for _ in range(2 if keep_finished else 1):
        assert_same(training.run(folder, keep_finished=keep_finished), whole)
    assert (folder / "state").exists() == keep_finished


def test_the_next_training_starts_over_and_a_longer_one_continues(training, tmp_path):
    settings = {"patience": 99, "keep_finished": True}
    expected = training.run(tmp_path / "one", epochs=3, patience=99)
    assert training.run(tmp_path / "one", epochs=1, patience=99).history.epoch == [0]
    training.run(tmp_path / "two", epochs=1, **settings)
    longer = training.run(tmp_path / "two", epochs=3, **settings)
    assert_same(longer, expected)
    longer.model.fit(training.x, training.y, epochs=1, verbose=0)  # without Resume, fit starts at its first epoch
    assert longer.model.history.epoch == [0]


def test_the_same_model_resumes_in_the_same_process(training, whole, tmp_path):
    """As in a notebook after Ctrl-C: the rate was reduced, and the weights changed after the last save."""
    folder = tmp_path / "notebook"
    folder.mkdir()
    model, memory = training.make(folder)
    data = training.pipeline()
    for moment in ((4, "batch"), None):
        callbacks = [
            Script(),
            *memory,
            Resume(folder / "state", every_seconds=0),
            *([KillAt(*moment)] if moment else []),
        ]
        if moment:
            with pytest.raises(Killed):
                model.fit(data, epochs=EPOCHS, callbacks=callbacks, verbose=0)
        else:
            history = model.fit(data, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    run = types.SimpleNamespace(model=model, memory=memory, history=history, resume=callbacks[-1])
    assert_same(run, whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.5}, "Received: alpha 0.5. Expected: the saved settings, alpha 0.7"),
        ({"alpha": kd.schedules.Cosine(0.9, 0.1, steps=10)}, "Received: alpha '.*Cosine.*saved settings, alpha 0.7"),
        ({"temperature": 4.0}, "temperature 4.0.*temperature 2.0"),
        ({"optimizer": keras.optimizers.SGD(0.01)}, "optimizer.class 'SGD'.*optimizer.class 'Adam'"),
        ({"optimizer": keras.optimizers.Adam(0.1)}, "learning rate 0.1.*learning rate 0.0099"),
        ({"optimizer": keras.optimizers.Adam(0.01, beta_1=0.5)}, "beta_1 0.5.*beta_1 0.9"),
        ({"width": 5}, r"student.layers.2 'Dense \(64, 5\).*student.layers.2 'Dense \(64, 4\)"),
        ({"patience": 7}, "callbacks.EarlyStopping.patience 7.*callbacks.EarlyStopping.patience 2"),
    ],
)
def test_the_state_of_another_training_is_rejected(settings, message, training, killed):
    with pytest.raises(ConfigurationError, match=f"(?s)belongs to another training.*{message}"):
        training.run(killed, **settings)


def test_other_data_are_rejected(training, killed):
    x, y = training.x, training.y
    others = {
        "data.data": Pipeline((x + 0.1, y), batch_size=16, augment=kd.data.Flip()),
        "data.labels": Pipeline((x, 9 - y), batch_size=16, augment=kd.data.Flip()),
        "data.batch_size 8": Pipeline((x, y), batch_size=8, augment=kd.data.Flip()),
        "data.augment": Pipeline((x, y), batch_size=16),
        "data.seed 1": Pipeline((x, y), batch_size=16, augment=kd.data.Flip(), seed=1),
    }
    for message, data in others.items():
        with pytest.raises(ConfigurationError, match=message):
            training.run(killed, data=data)


def plain_model():
    keras.utils.set_random_seed(1)
    return compiled(network(4))


def test_arrays(digits, tmp_path):
    """Bit-exact in a fixed order; shuffled, a notice reports that the order restarts; other arrays are rejected."""
    x, y = digits[0][:32], digits[1][:32]

    def fit(folder, *callbacks, x=x, y=y, **settings):
        model = plain_model()
        model.fit(
            x,
            y,
            batch_size=16,
            epochs=3,
            verbose=0,
            callbacks=[Resume(folder, every_seconds=0), *callbacks],
            **settings,
        )
        return model

    whole = fit(tmp_path / "whole", shuffle=False)
    for shuffle in (False, True):
        with pytest.raises(Killed):
            fit(tmp_path / "state", KillAt(1, "batch"), shuffle=shuffle)
        for other in ({"x": x + 0.5}, {"y": 9 - y}, {"shuffle": not shuffle}, {"sample_weight": np.ones(32)}):
            with pytest.raises(ConfigurationError, match="another training.*data."):
                fit(tmp_path / "state", **{"shuffle": shuffle, **other})
        if shuffle:
            with pytest.warns(Notice, match="after epoch 1, but the order of its batches starts over"):
                resumed = fit(tmp_path / "state", shuffle=True)
            assert resumed.history.epoch == [0, 1, 2]
        else:
            resumed = fit(tmp_path / "state", shuffle=False)
            for one, other in zip(weights(resumed), weights(whole), strict=True):
                np.testing.assert_array_equal(one, other)


def test_streams(digits, tmp_path):
    import tensorflow as tf

    def data(size):
        return tf.data.Dataset.from_tensor_slices((digits[0][:32], digits[1][:32])).batch(size)

    def fit(data, *callbacks):
        plain_model().fit(
            data, epochs=3, shuffle=False, verbose=0, callbacks=[Resume(tmp_path / "s", every_seconds=0), *callbacks]
        )

    with pytest.raises(Killed):
        fit(data(16), KillAt(1, "batch"))
    with pytest.raises(ConfigurationError, match="data.batches 4.*data.batches 2"):
        fit(data(8))
    with pytest.warns(Notice, match="starts over"):
        fit(data(16))


def state_files(folder, epoch):
    return [file for file in (folder / "state").iterdir() if file.name.startswith(f"epoch-{epoch}.")]


def test_a_damaged_state_costs_an_epoch(training, whole, tmp_path):
    with pytest.raises(Killed):
        training.run(tmp_path, (2, "batch"))
    (tmp_path / "state" / "epoch-2.weights.h5").write_bytes(b"")
    with pytest.warns(Notice, match="epoch-2.*is damaged. The training resumes .* after epoch 1"):
        resumed = training.run(tmp_path)
    assert_same(resumed, whole)


def test_a_full_disk_costs_a_save_and_not_the_training(training, tmp_path, monkeypatch):
    original = keras.Model.save_weights

    def full(model, file, *args, **settings):
        original(model, file, *args, **settings)
        if Path(file).name == "epoch-2.weights.h5":
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", full)
    with pytest.warns(Notice, match="after epoch 2 could not be saved.*No space left"), pytest.raises(Killed):
        training.run(tmp_path, (2, "batch"))
    assert not state_files(tmp_path, 2) and state_files(tmp_path, 1)


class StopInEpoch(keras.callbacks.Callback):
    """Ends a training as TerminateOnNaN or a Ctrl-C handler does."""

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._now == 2 and batch == 0:
            self.model.stop_training = True


def test_an_interrupted_epoch_does_not_count_as_complete(training, whole, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    model, memory = training.make(folder)
    data = training.pipeline()
    callbacks = [Script(), *memory, StopInEpoch(), Resume(folder / "state", every_seconds=0)]
    model.fit(data, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    assert len(state_files(folder, 2)) == 3 and not state_files(folder, 3)
    assert_same(training.run(folder), whole)


class Counter(keras.callbacks.Callback):
    """A user-defined callback with `get_state` and `set_state`."""

    def __init__(self):
        super().__init__()
        self.seen, self.array = 0, np.zeros(3, "float16")

    def on_epoch_end(self, epoch, logs=None):
        self.seen += 1
        self.array += 0.5

    def get_state(self):
        return {"seen": self.seen, "nested": [self.array, {"text": "a"}]}

    def set_state(self, state):
        self.seen, (self.array, rest) = state["seen"], state["nested"]
        assert rest == {"text": "a"}


def test_callbacks_with_get_state_and_set_state(digits, tmp_path, monkeypatch):
    """Two callbacks of one class each get their own state back, and a TFLiteExport its best weights."""
    exported = []
    monkeypatch.setattr(
        "keras_kd.callbacks.tflite_export.export_tflite", lambda m, path, **_: exported.append(m.get_weights())
    )

    def fit(*kills):
        keras.utils.set_random_seed(2)
        model = plain_model()
        counters = [Counter(), Counter()]
        counters[1].seen = 10
        export = TFLiteExport(tmp_path / "best.tflite", monitor="val_loss")
        resume = Resume(tmp_path / "state", every_seconds=0)
        callbacks = [resume, Script(), *counters, export, *(KillAt(*one) for one in kills)]
        model.fit(
            digits[0][:64], digits[1][:64], batch_size=64, shuffle=False, epochs=5, verbose=0, callbacks=callbacks
        )
        return counters, export

    fit()
    with pytest.raises(Killed):
        fit((3, "batch"))
    counters, export = fit()
    assert [counter.seen for counter in counters] == [5, 15]
    assert counters[0].array.tolist() == [2.5] * 3 and counters[0].array.dtype == np.float16
    assert export.best == 3.0 and len(exported) == 2
    for one, other in zip(*exported, strict=True):
        np.testing.assert_array_equal(one, other)


class LowerAlpha(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.alpha = 0.7 - 0.1 * (epoch + 1)


def test_an_alpha_set_during_training_is_kept(training, tmp_path):
    """Keras' checkpoints do not contain it."""
    data = Pipeline((training.x, training.y), batch_size=16)
    alphas = {}
    for name, kills in (("whole", []), ("killed", [(2, "batch")]), ("killed", [])):
        model = training.make(tmp_path)[0]
        callbacks = [Resume(tmp_path / name, every_seconds=0), LowerAlpha(), *(KillAt(*one) for one in kills)]
        try:
            alphas[name] = model.fit(data, epochs=4, verbose=0, callbacks=callbacks).history["alpha"]
        except Killed:
            assert kills
    assert alphas["killed"] == alphas["whole"]
    assert alphas["whole"][-1] == pytest.approx(0.4)


class Late(keras.Model):
    """A model that is built in its first call and cannot be traced before."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(10)

    def call(self, inputs):
        return self.head(keras.ops.reshape(inputs, (len(inputs), -1)))


def test_a_model_without_weights_or_optimizer_is_rejected(killed):
    with pytest.raises(ConfigurationError, match="a Late that is not built.*call the model once on a batch"):
        Resume(killed / "state").restore(Late())
    with pytest.raises(ConfigurationError, match="not compiled.*Compile it"):
        Resume(killed / "state").restore(network(4))
