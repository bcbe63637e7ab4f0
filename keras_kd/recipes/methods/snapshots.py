"""The teacher at several times of its training: the snapshots, and the finished teacher among them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras

from keras_kd import files
from keras_kd.callbacks import Snapshots
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import digest
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import make_optimizer
from keras_kd.recipes.stages.training import Training


class SnapshotsTraining(Training):
    """Trains the teacher and makes a folder of its snapshots, with a manifest of their digests.

    The folder belongs to these settings, so that snapshots of two trainings never mix.
    """

    def __init__(self, checked: CheckedRecipe):
        snapshots = checked.recipe.teacher.snapshots
        self._cycles = snapshots.number if snapshots.use == "ensemble" else 1
        super().__init__(
            "snapshots",
            model=checked.models["teacher"],
            checked=checked,
            makes=Artifact(role=Role.SNAPSHOTS, title="teacher", kind="snapshots"),
            views=None,
            settings={"snapshots": {"number": snapshots.number, "cycles": self._cycles}},
        )
        self._number = snapshots.number

    def optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        return make_optimizer(self._model.settings, total_steps, self._cycles)

    def callbacks(self, context: Context) -> list[keras.callbacks.Callback]:
        return [self._saving(context)]

    def run(self, context: Context) -> Artifact:
        folder = self._folder(context)
        if not folder.exists():  # a state without its snapshots
            self._resume(context).clear()
            folder.mkdir(parents=True)
        _, record = self.train(context)
        if len(self._saving(context).paths) != self._number:  # some were removed before the training resumed
            self._resume(context).clear()
            _, record = self.train(context)
        made = {path.name: digest(path) for path in self._saving(context).paths}
        files.write_json(folder / "manifest.json", made)
        file = (folder / "manifest.json").relative_to(context.folder.path)
        return dataclasses.replace(self.makes, file=file, record=record)

    def clean_up(self, context: Context) -> None:
        super().clean_up(context)
        for folder in context.folder.state.glob("snapshots-*"):
            if folder != self._folder(context):
                shutil.rmtree(folder)

    def digest(self, file: Path) -> str | None:
        """The identity of the snapshots; None if one of them is missing or was changed."""
        made = files.read_json(file)
        is_whole = made and all(digest(file.parent / name) == known for name, known in made.items())
        return digest(file) if is_whole else None

    def skipped(self, file: Path | None) -> str:
        return f"{self.title}: loaded {self._number} snapshots in {file.parent}, trained before with these settings."

    @staticmethod
    def paths(manifest: Path) -> list[Path]:
        """The snapshots, the first one first; the last is the finished teacher."""
        return [manifest.parent / name for name in files.read_json(manifest)]

    def _saving(self, context: Context) -> Snapshots:
        return Snapshots(self._folder(context), every_epochs=self._model.settings.epochs // self._number)

    def _folder(self, context: Context) -> Path:
        return context.folder.state / f"snapshots-{self.key()}"


class TeacherOfSnapshots(Stage):
    """The finished teacher, which is the last snapshot."""

    def __init__(self, training: SnapshotsTraining, makes: Artifact):
        super().__init__("teacher", inputs=[training], settings={}, makes=makes)

    def run(self, context: Context) -> Artifact:
        (training,) = self.inputs
        last = training.paths(context.file(training.id))[-1]
        record: dict[str, Any] = dict(context.artifacts[training.id].record)
        return context.save_model(self.makes, keras.models.load_model(last, compile=False), **record)

    def replacing(self, file: Path, reason: str) -> str:
        return f"{file.name}: {reason}, replaced by the last snapshot."
