"""A callback that saves the checkpoints of a route while the teacher is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras

from keras_kd import files
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain

_SMALLEST_DROP = 1e-12


class SaveRoute(keras.callbacks.Callback):
    """Saves a model at several times of its training, for `keras_kd.teachers.Route`.

        save = kd.callbacks.SaveRoute("route", every_epochs=20)
        teacher.fit(x, y, epochs=60, callbacks=[save])
        route = kd.teachers.Route(save.paths, every_epochs=20)

    Each file is complete or absent. The model at the end of the training is always the last one. `Resume` keeps the
    state of this callback. Of a `Distiller`, the student is saved.

    Args:
        folder: where to write `epoch-0020.keras` and so on; created if missing. Existing files of these names are
            replaced, others stay.
        every_epochs: save after every so many epochs.
        every_drop: instead, save after the first epoch, and whenever `monitor` has fallen by this much since the last
            save: many early checkpoints, few late ones.
        monitor: the value in the logs that `every_drop` reads, one that falls.

    Attributes:
        paths: the files of this training, in order.

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
    ):
        super().__init__()
        if (every_epochs is None) == (every_drop is None):
            raise ConfigurationError(
                explain(
                    "SaveRoute saves by epochs or by the fall of a value.",
                    received=f"every_epochs={every_epochs!r}, every_drop={every_drop!r}",
                    expected="one of the two",
                )
            )
        self.folder = Path(folder)
        self.every_epochs = None if every_epochs is None else check_integer("every_epochs", every_epochs, at_least=1)
        self.every_drop = (
            None if every_drop is None else check_number("every_drop", every_drop, at_least=_SMALLEST_DROP)
        )
        self.monitor = monitor
        self._names: list[str] = []
        self._last: float | None = None
        self._num_epochs = 0

    @property
    def paths(self) -> list[Path]:
        return [self.folder / name for name in self._names]

    def on_train_begin(self, logs=None):
        self._names, self._last, self._num_epochs = [], None, 0  # `Resume` sets them after this

    def on_epoch_end(self, epoch, logs=None):
        self._num_epochs = epoch + 1
        if self._is_due(epoch, logs or {}):
            self._save(epoch)

    def on_train_end(self, logs=None):
        if self._num_epochs and _name(self._num_epochs) not in self._names:
            self._save(self._num_epochs - 1)

    def get_state(self) -> dict[str, Any]:
        """The state that `Resume` saves."""
        return {"names": list(self._names), "last": self._last, "num_epochs": self._num_epochs}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._names, self._last, self._num_epochs = list(state["names"]), state["last"], state["num_epochs"]

    def _is_due(self, epoch: int, logs: dict[str, Any]) -> bool:
        if self.every_epochs is not None:
            return (epoch + 1) % self.every_epochs == 0
        if self.monitor not in logs:
            raise ConfigurationError(
                explain(
                    "The logs do not contain the value that SaveRoute reads.",
                    received=repr(self.monitor),
                    expected=f"one of {', '.join(map(repr, sorted(logs)))}",
                )
            )
        value = float(logs[self.monitor])
        if math.isnan(value) or (self._last is not None and value > self._last - self.every_drop):
            return False
        self._last = value
        return True

    def _save(self, epoch: int) -> None:
        path = self.folder / _name(epoch + 1)
        with files.storage_errors(self.folder), files.replacing(path) as temporary:
            getattr(self.model, "student", self.model).save(temporary)
        self._names.append(path.name)


def _name(num_epochs: int) -> str:
    return f"epoch-{num_epochs:04d}.keras"
