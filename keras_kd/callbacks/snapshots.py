"""A callback that saves a model at the end of each learning-rate cycle: the members of a snapshot ensemble."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_kd import files
from keras_kd.errors import Notice, check_integer
from keras_kd.keras_private import uncompiled

_OURS = re.compile(r"snapshot-(\d+)\.keras")


class Snapshots(keras.callbacks.Callback):
    """Saves the model every so many epochs, when its learning rate has reached the end of a cycle.

        steps = 3 * len(batches)                                        # three epochs a cycle
        cycles = kd.schedules.LearningRate(kd.schedules.CosineRestarts(0.1, 0.0, steps=steps))
        model.compile(keras.optimizers.SGD(cycles, momentum=0.9), loss=...)
        model.fit(batches, epochs=15, callbacks=[kd.callbacks.Snapshots("snapshots", every_epochs=3)])
        teacher = kd.teachers.Ensemble.from_folder("snapshots")         # five teachers for the price of one

    The files are `snapshot-1.keras`, `snapshot-2.keras`, ..., each complete or absent, without the optimizer; of a
    `Distiller` the student is saved. The number follows from the epoch, so a training that was killed and resumed
    writes the same files. Like `ModelCheckpoint`, a training replaces the files of an earlier one in its folder: those
    that it has yet to reach are removed when it begins, so that an ensemble never mixes two trainings.

    Source: Huang et al., "Snapshot Ensembles: Train 1, Get M for Free", 2017.

    Args:
        folder: created if missing; each training needs its own.
        every_epochs: the epochs of a cycle.

    Raises:
        ConfigurationError: `every_epochs` below 1.
        OSError: a file cannot be written.
    """

    def __init__(self, folder: str | Path, *, every_epochs: int):
        super().__init__()
        self.folder = Path(folder)
        self.every_epochs = check_integer("every_epochs", every_epochs, at_least=1)
        self._has_begun = False

    @property
    def paths(self) -> list[Path]:
        """The snapshots in the folder, oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _OURS.fullmatch(path.name)), key=_number)

    def on_train_begin(self, logs=None):
        self._has_begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._has_begun:
            self._has_begun = True
            self._check_folder(epoch // self.every_epochs)

    def on_epoch_end(self, epoch, logs=None):
        number, rest = divmod(epoch + 1, self.every_epochs)
        if rest == 0:
            student = getattr(self.model, "student", self.model)
            with files.replacing(self.folder / f"snapshot-{number}.keras") as temporary, uncompiled(student):
                student.save(temporary)

    def get_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        return {"every_epochs": self.every_epochs}

    def _check_folder(self, num_done: int) -> None:
        """Removes the snapshots that this training has yet to make; reports those that it should have made."""
        for path in self.paths:
            if _number(path) > num_done:
                path.unlink()
        if self.folder.is_dir():
            files.remove_partial(self.folder)
        missing = sorted(set(range(1, num_done + 1)) - set(map(_number, self.paths)))
        if missing:
            warnings.warn(
                f"The training continues after {num_done} cycles, but {self.folder} lacks the snapshots {missing}.",
                Notice,
                stacklevel=2,
            )


def _number(path: Path) -> int:
    return int(_OURS.fullmatch(path.name)[1])
