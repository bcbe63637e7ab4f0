"""A run killed at any moment resumes and ends bit-identical to an uninterrupted one."""

import functools
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from processes import finished_cpu_seconds

from keras_kd import data, evaluation
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.stages import training

FEW = "few_labels={num_labels: 50}"
MODELS = ("teacher.keras", "student.keras", ".state/scratch.keras", ".state/few_scratch.keras")
MODELS += (".state/few_distilled.keras",)


class Killed(BaseException):
    """Simulates kill -9: nothing in the library may catch it."""


def end():
    raise Killed


def run_eagerly(patch):
    """Compiling a step takes longer than the few steps of a test."""
    patch.setattr(keras.Model, "compile", functools.partialmethod(keras.Model.compile, run_eagerly=True))


@pytest.fixture
def moments(example_models):
    import moments

    return moments


def assert_same_models(folder, expected, names=MODELS):
    for name in names:
        one, other = (keras.models.load_model(f / name, compile=False).get_weights() for f in (folder, expected))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(start_recipe, tmp_path_factory):
    """The folder of a teacher trained without interruption, and its training record."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        run_eagerly(patch)
        artifacts = start_recipe(folder).run(Role.TEACHER)
    return folder, artifacts["teacher"].record


@pytest.mark.parametrize(
    "moment",
    [
        "in_an_epoch",
        "while_weights_are_written",
        "before_the_model_is_saved",
        "between_stamp_and_model",
        "before_the_state_is_cleared",
    ],
)
def test_a_training_resumes_from_its_last_save(moment, moments, uninterrupted, start_recipe, tmp_path, monkeypatch):
    """With dropout and Adam; saved epochs are not trained again."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    run_eagerly(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        getattr(moments, moment)(patch, "teacher", end)
        start_recipe(tmp_path / "run").run(Role.TEACHER)

    first_epochs = []
    fit = keras.Sequential.fit
    monkeypatch.setattr(
        keras.Sequential, "fit", lambda *args, **kw: first_epochs.append(kw["initial_epoch"]) or fit(*args, **kw)
    )
    artifacts = start_recipe(tmp_path / "run").run(Role.TEACHER)
    expected = {"in_an_epoch": 1, "while_weights_are_written": 1, "before_the_state_is_cleared": None}
    assert first_epochs == [epoch for epoch in [expected.get(moment, 3)] if epoch is not None]
    assert_same_models(tmp_path / "run", uninterrupted[0], MODELS[:1])
    assert artifacts["teacher"].record == uninterrupted[1]


def environment():
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again(start, finished, run_recipe, make_recipe, tmp_path):
    """Three attempts in their own processes end in SIGKILL; the fourth finishes."""
    folder = tmp_path / "run"
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(make_recipe(folder, FEW).model_dump(mode="json")))
    script = Path(__file__).with_name("moments.py")
    for moment, stage, left in (
        ("in_an_epoch", "teacher", set()),
        ("while_weights_are_written", "distilled", {"teacher.keras", ".state/scratch.keras"}),
        ("while_a_file_is_exported", "", set(MODELS) | {".state/teacher_float32.tflite"}),
    ):
        done = start(sys.executable, script, moment, stage, "run", file, env=environment()).wait()
        assert done.returncode == -signal.SIGKILL, done.stderr
        names = {str(path.relative_to(folder)) for path in folder.rglob("[!.]*")}
        assert {name for name in names if name.endswith((".keras", ".tflite"))} == left

    report, said = run_recipe(folder, FEW)
    assert said.count("trained before with these settings") == 5
    assert_same_models(folder, finished[0])
    assert json.loads((folder / "history.json").read_text()) == finished[1].histories
    x, _ = data.open_source("digits").test.arrays()
    for name in ("student_float32.tflite", "student_int8.tflite"):
        one, other = (evaluation.TFLiteRunner(place / name).predict(x) for place in (folder, finished[0]))
        np.testing.assert_array_equal(one, other)
    assert [(row.id, row["accuracy"]) for row in report.rows] == [(row.id, row["accuracy"]) for row in finished[1].rows]


@pytest.mark.long
def test_the_command_is_killed_from_outside(start, tmp_path):
    """Without test settings: the shipped models, saves every five seconds, and conversions in child processes."""
    settings = ["teacher.epochs=15", "student.epochs=20", "few_labels=null"]
    command = [Path(sys.executable).with_name("keras-kd"), "run", *(f"--set={setting}" for setting in settings)]
    folders = tmp_path / "killed", tmp_path / "whole"
    before = finished_cpu_seconds()
    assert start(*command, "--output-dir", folders[1], env=environment()).wait().returncode == 0
    work = finished_cpu_seconds() - before
    rng, kills, has_finished = random.Random(0), 0, False
    while not has_finished:
        run = start(*command, "--output-dir", folders[0], env=environment())
        # four kills, at random fractions of an uninterrupted run's CPU time, whatever the speed of the machine
        enough = rng.uniform(0.2, 0.8) * work if kills < 4 else float("inf")
        run.wait_for(lambda: run.has_ended or run.cpu_seconds > enough, "a moment")  # noqa: B023 (called at once)
        has_finished = run.has_ended
        run.end()
        kills += not has_finished
        assert not has_finished or run.wait().returncode == 0
    assert kills
    assert_same_models(*folders, MODELS[:3])
    one, other = (json.loads((folder / "history.json").read_text()) for folder in folders)
    assert one == other
    assert {len(history["loss"]) for history in one.values()} == {15, 20}


def test_killed_before_the_report(moments, finished, run_recipe, tmp_path, monkeypatch):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    before = (folder / "report.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        moments.before_the_report(patch, "", end)
        run_recipe(folder, FEW)
    assert (folder / "report.json").read_bytes() == before
