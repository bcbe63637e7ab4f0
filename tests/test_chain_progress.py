"""The stages of a run as lines, and Ctrl-C during training, which takes effect between two batches."""

import io
import threading
import types

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_kd import interruption
from keras_kd.callbacks import Resume
from keras_kd.chain import fitting, progress
from keras_kd.chain.progress import EpochProgress, RunProgress
from keras_kd.errors import TrainingError


@pytest.fixture(autouse=True)
def own_events(monkeypatch):
    for name in ("_pressed", "_held"):
        monkeypatch.setattr(interruption, name, threading.Event())


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


def test_the_stages_of_a_run_in_a_file(console):
    """Without control codes, whatever a note contains."""
    with RunProgress(console) as run:
        with run.stage("teacher", total=3, done=1) as stage:
            stage.advance("validation 90.0%")
        run.say("student: loaded run[1]/student.keras")
        with run.stage("measure") as stage:
            stage.note("latency")
    assert console.file.getvalue().splitlines() == [
        "teacher: 1 of 3",
        "teacher: 3 of 3, validation 90.0%, 0 s",
        "student: loaded run[1]/student.keras",
        "measure: 1 of 1, latency, 0 s",
    ]


def test_the_stages_of_a_run_on_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})
    with RunProgress(console) as run, run.stage("teacher", total=3) as stage:
        stage.advance("validation 90.0%")
    assert "3/3" in console.file.getvalue() and "validation 90.0%" in console.file.getvalue()


def test_ctrl_c_ends_the_next_stage_too(console):
    """If the previous stage swallowed it."""
    with RunProgress(console) as run:
        interruption._pressed.set()
        with pytest.raises(KeyboardInterrupt), run.stage("measure"):
            pytest.fail("the stage began")


def fit(model, folder, console, *, press_at, batch_seconds=0.0, monkeypatch):
    """Trains three epochs of four batches; Ctrl-C is pressed in batch `press_at`, counted from 0 over all epochs."""
    clock, batches = types.SimpleNamespace(now=0.0), []
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock.now))

    class Presses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            clock.now += batch_seconds
            batches.append(batch)
            if len(batches) == press_at + 1:
                interruption.press()

    resume = Resume(folder, every_seconds=1e9)
    x = np.zeros((8, 8, 8, 1), "float32")
    with pytest.raises(KeyboardInterrupt), RunProgress(console).stage("teacher", total=3) as stage:
        callbacks = [Presses(), resume, EpochProgress(stage, resume)]
        model.fit(x, np.zeros(8), batch_size=2, epochs=3, callbacks=callbacks, verbose=0)
    return len(batches)


@pytest.fixture
def model(make_model):
    model = make_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    return model


@pytest.mark.parametrize(
    ("press_at", "batch_seconds", "batches", "epochs_saved"),
    [
        (1, 0.1, 2, 0),  # the duration of an epoch is still unknown
        (5, 0.1, 8, 2),  # a short epoch is finished and saved
        (5, 10.0, 6, 0),  # a long one is not
        (11, 0.1, 12, 3),
    ],
)
def test_ctrl_c_ends_a_training(model, console, tmp_path, monkeypatch, press_at, batch_seconds, batches, epochs_saved):
    taken = fit(
        model, tmp_path / "state", console, press_at=press_at, batch_seconds=batch_seconds, monkeypatch=monkeypatch
    )
    assert taken == batches
    model.compile("sgd", "mse")
    assert any((tmp_path / "state").glob("epoch-*.json")) == bool(epochs_saved)
    if epochs_saved:
        assert Resume(tmp_path / "state").restore(model) == epochs_saved
    assert not interruption._held.is_set()


def test_examples_outside_the_value_range_are_the_reason_given():
    stop = fitting._StopWhenDiverged("student")
    stop.on_epoch_end(0, {"loss": 1.0, "outside_value_range": 0.0})
    with pytest.raises(TrainingError, match=r"student, epoch 2: .*outside the value range.*Received: 0.50% of them"):
        stop.on_epoch_end(1, {"loss": float("nan"), "outside_value_range": 0.005})
    with pytest.raises(TrainingError, match="student, epoch 2: the training diverged"):
        stop.on_epoch_end(1, {"loss": float("nan"), "outside_value_range": 0.0})
