"""Recipes with tiny models, and one run of such a recipe shared by several tests."""

import functools
import io
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from rich.console import Console

from keras_kd import export, recipes
from keras_kd.chain.progress import RunProgress
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.engine import loop
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.plan import plan
from keras_kd.recipes.stages import training

SECTIONS = {
    "data": {"source": "digits"},
    "teacher": {"model": "example_models:teacher", "epochs": 3, "learning_rate": 0.01},
    "student": {"model": "example_models:student", "epochs": 2, "learning_rate": 0.01},
}


@pytest.fixture(scope="session")
def session_monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def example_models(session_monkeypatch):
    """The module `example_models`, importable like a user's own."""
    session_monkeypatch.syspath_prepend(Path(__file__).parent)
    import example_models

    return example_models


@pytest.fixture(scope="session")
def make_recipe(example_models):
    """Loads a recipe for `folder` with `--set` overrides on top of `SECTIONS`."""

    def make(folder, *overrides):
        file = Path(folder).with_suffix(".yaml")
        file.write_text(yaml.safe_dump({**SECTIONS, "output_dir": str(folder)}))
        recipe = recipes.load(file, overrides)
        file.unlink()
        return recipe

    return make


@pytest.fixture(scope="session")
def run_recipe(make_recipe):
    """Runs a recipe, one of `make_recipe` by default, and its converter in this process, which saves some seconds."""

    def run(folder, *overrides, recipe=None):
        console = Console(file=io.StringIO(), width=300)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("export_tflite", "export_guarded"):
                patch.setattr(export, name, functools.partial(getattr(export, name), isolate=False))
            patch.setattr(export.Converter, "start", lambda converter: None)
            report = recipes.run(recipe or make_recipe(folder, *overrides), console)
        return report, console.file.getvalue()

    return run


class Started:
    """A run in a folder whose stages can be run individually."""

    def __init__(self, recipe):
        self.console = Console(file=io.StringIO(), width=300)
        self.plan = plan(check_recipe(recipe), RunFolder(recipe.folder))
        progress = RunProgress(self.console)
        self.context = Context(self.plan.checked, self.plan.folder, progress, export.Converter())

    def run(self, *roles):
        """Runs the stages of the given roles, by default all models and caches; returns their artifacts by id."""
        only = self.plan.of(*(roles or (*MODELS, Role.CACHE)))
        return loop.run(self.plan.stages, self.context, only)

    def said(self):
        return self.console.file.getvalue()


@pytest.fixture(scope="session")
def start_recipe(make_recipe):
    """Checks and plans a recipe, without running it."""
    return lambda folder, *overrides: Started(make_recipe(folder, *overrides))


@pytest.fixture(scope="session")
def finished(run_recipe, tmp_path_factory):
    """The folder of a finished run, its report, and its console output."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    report, said = run_recipe(folder, "few_labels={num_labels: 50}")
    return folder, report, said


@pytest.fixture
def eager(monkeypatch):
    """Runs steps eagerly: compiling takes longer than the few steps of some tests."""
    compile_ = keras.Model.compile
    monkeypatch.setattr(keras.Model, "compile", functools.partialmethod(compile_, run_eagerly=True))


@pytest.fixture
def assert_resumes(start_recipe, tmp_path, monkeypatch, eager):
    """Interrupts the training of a stage, resumes it, and compares its model with that of an uninterrupted run."""

    def check(stage, file, *overrides, roles=(Role.TEACHER, Role.DISTILLED)):
        import moments

        monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
        start_recipe(tmp_path / "whole", *overrides).run(*roles)
        shutil.copytree(tmp_path / "whole", tmp_path / "broken")
        (tmp_path / "broken" / file).unlink()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            moments.in_an_epoch(patch, stage, interrupt)
            start_recipe(tmp_path / "broken", *overrides).run(*roles)
        resumed = start_recipe(tmp_path / "broken", *overrides)
        resumed.run(*roles)
        assert "resuming after epoch 1 of " in resumed.said()
        whole, broken = (keras.models.load_model(tmp_path / run / file) for run in ("whole", "broken"))
        for one, other in zip(whole.get_weights(), broken.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    return check


def interrupt():
    raise KeyboardInterrupt
