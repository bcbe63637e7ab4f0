"""A callback that saves a model at several times of its training: for an ensemble of them, or as a route."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_kd import files
from keras_kd.errors import ConfigurationError, Notice, check_integer, check_number, explain
from keras_kd.keras_private import uncompiled

_OURS = re.compile(r"epoch-(\d+)\.keras")
_SMALLEST_DROP = 1e-12


class Snapshots(keras.callbacks.Callback):
    """Saves the model every so many epochs, or whenever its loss has fallen by an amount.

        cycles = kd.schedules.LearningRate(kd.schedules.CosineRestarts(0.1, 0.0, steps=3 * len(batches)))
        model.compile(keras.optimizers.SGD(cycles, momentum=0.9), loss=...)
        model.fit(batches, epochs=15, callbacks=[kd.callbacks.Snapshots("snapshots", every_epochs=3)])
        teacher = kd.teachers.Ensemble.from_folder("snapshots")         # five teachers for the price of one

        save = kd.callbacks.Snapshots("route", every_epochs=20, last=True)
        teacher.fit(x, y, epochs=50, callbacks=[save])
        route = kd.teachers.Route(save.paths, every_epochs=20)          # early checkpoints first

    The files are `epoch-0003.keras` and so on, each complete or absent, without the optimizer; of a `Distiller` the
    student is saved. A training that was killed and resumed writes the same files. Like `ModelCheckpoint`, a training
    replaces the files of an earlier one in its folder: those that it has yet to reach are removed when it begins, so
    that two trainings are never mixed. Other files stay.

    Sources: Huang et al., "Snapshot Ensembles: Train 1, Get M for Free", 2017, who save at the end of each cycle of the
    learning rate; Jin et al., "Knowledge Distillation via Route Constrained Optimization", 2019.

    Args:
        folder: created if missing; each training needs its own.
        every_epochs: the epochs between two snapshots, such as those of a cycle.
        every_drop: instead, save after the first epoch, and whenever `monitor` has fallen by this much since the last
            snapshot: many early, few late ones.
        monitor: the value in the logs that `every_drop` reads, one that falls.
        last: whether to save the model at the end of the training too.

    Raises:
        ConfigurationError: not exactly one of `every_epochs` and `every_drop`, or a value out of range; in `fit`, no
            `monitor` in the logs.
        StorageError: the disk is full or not writable.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_epochs: int | None = None,
        every_drop: float | None = None,
        monitor: str = "loss",
        last: bool = False,
    ):
        super().__init__()
        if (every_epochs is None) == (every_drop is None):
            raise ConfigurationError(
                explain(
                    "Snapshots are saved by epochs or by the fall of a value.",
                    received=f"every_epochs={every_epochs!r}, every_drop={every_drop!r}",
                    expected="one of the two",
                )
            )
        self.folder, self.monitor, self.last = Path(folder), monitor, bool(last)
        if every_drop is None:
            every_epochs = check_integer("every_epochs", every_epochs, at_least=1)
        else:
            every_drop = check_number("every_drop", every_drop, at_least=_SMALLEST_DROP)
        self.every_epochs, self.every_drop = every_epochs, every_drop
        self._begin()

    def _begin(self) -> None:
        self._has_begun, self._num_epochs = False, 0
        self._value: float | None = None  # at the last snapshot
        self._saved: list[int] | None = None  # by this training; None if it is not known

    @property
    def paths(self) -> list[Path]:
        """The snapshots in the folder, oldest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _OURS.fullmatch(path.name)), key=_number)

    def on_train_begin(self, logs=None):
        self._begin()  # `Resume` restores the state after this

    def on_epoch_begin(self, epoch, logs=None):
        if not self._has_begun:
            self._has_begun = True
            self._check_folder(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._num_epochs = epoch + 1
        if self._is_due(logs or {}):
            self._save()

    def on_train_end(self, logs=None):
        if self.last and self._num_epochs and self._num_epochs not in self._saved:
            self._save()

    def get_state(self) -> dict[str, Any]:
        """The state that `Resume` saves."""
        return {"value": self._value, "saved": list(self._saved or [])}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._value, self._saved = state["value"], list(state["saved"])

    def get_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        return {name: getattr(self, name) for name in ("every_epochs", "every_drop", "monitor", "last")}

    def _is_due(self, logs: dict[str, Any]) -> bool:
        if self.every_epochs is not None:
            return self._num_epochs % self.every_epochs == 0
        if self.monitor not in logs:
            raise ConfigurationError(
                explain(
                    "The logs do not contain the value that Snapshots reads.",
                    received=repr(self.monitor),
                    expected=f"one of {', '.join(map(repr, sorted(logs)))}",
                )
            )
        value = float(logs[self.monitor])
        if math.isnan(value) or (self._value is not None and value > self._value - self.every_drop):
            return False
        self._value = value
        return True

    def _save(self) -> None:
        path = self.folder / f"epoch-{self._num_epochs:04d}.keras"
        student = getattr(self.model, "student", self.model)
        with files.storage_errors(self.folder), files.replacing(path) as temporary, uncompiled(student):
            student.save(temporary)
        self._saved.append(self._num_epochs)

    def _check_folder(self, num_done: int) -> None:
        """Removes the snapshots of other trainings; reports those that this one should have made."""
        every = self.every_epochs
        due = range(every, num_done + 1, every) if every else self._saved or range(1, num_done + 1)
        for path in self.paths:
            if _number(path) not in due or _number(path) > num_done:
                path.unlink()
        if self.folder.is_dir():
            files.remove_partial(self.folder)
        self._saved = [_number(path) for path in self.paths]
        missing = sorted(set(due) - set(self._saved)) if every else []
        if missing:
            warnings.warn(
                f"The training continues after epoch {num_done}, but {self.folder} lacks the snapshots of the epochs "
                f"{missing}.",
                Notice,
                stacklevel=2,
            )


def _number(path: Path) -> int:
    return int(_OURS.fullmatch(path.name)[1])
