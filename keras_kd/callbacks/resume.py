"""A callback that lets a killed training go on, bit for bit, from its last saved epoch."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops


class Resume(keras.callbacks.Callback):
    """Saves weights, optimizer, random state, epoch and history now and then; each save is whole or not there at all.

    Unlike `keras.callbacks.BackupAndRestore` it writes to a temporary name and renames, so a kill in the middle of
    a save leaves the save before it intact; and it saves where the model's dropout layers stand in their random
    numbers, which Keras' weight files leave out.

    Args:
        folder: where the state lives; made where missing.
        every_seconds: the least time between two saves; 0 saves after every epoch.

    Use:
        resume = Resume("run/state")
        first_epoch = resume.restore(model)
        model.fit(data, initial_epoch=first_epoch, epochs=30, callbacks=[resume])
        resume.history  # of all epochs, those before the interruption too
        resume.clear()
    """

    def __init__(self, folder: str | Path, *, every_seconds: float = 10.0):
        super().__init__()
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.history: dict[str, list[float]] = {}
        self._last_save = time.monotonic()

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def restore(self, model: keras.Model) -> int:
        """Loads what was saved into a built and compiled model.

        Returns:
            The epoch to go on with, 0 where nothing was saved.
        """
        if not self._state_file.exists():
            return 0
        state = json.loads(self._state_file.read_text())
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder / state["weights"])
        for variable, value in zip(_random_state(model), state["random"], strict=True):
            variable.assign(value)
        self.history = state["history"]
        return state["epoch"]

    def clear(self) -> None:
        """Removes what was saved."""
        self._state_file.unlink(missing_ok=True)
        for leftover in (*self.folder.glob("epoch-*.weights.h5"), *self.folder.glob("state.tmp")):
            leftover.unlink()
        with contextlib.suppress(OSError):  # it is not there, or holds files of somebody else
            self.folder.rmdir()

    def on_epoch_end(self, epoch, logs: dict[str, Any] | None = None):
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        if time.monotonic() - self._last_save >= self.every_seconds:
            self._save(epoch + 1)
            self._last_save = time.monotonic()

    def _save(self, epoch: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self.folder / f"epoch-{epoch}.weights.h5"
        self.model.save_weights(weights)
        random = [ops.convert_to_numpy(variable).tolist() for variable in _random_state(self.model)]
        state = {"epoch": epoch, "weights": weights.name, "random": random, "history": self.history}
        temporary = self._state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self._state_file)  # from here on the new weights count
        for old in self.folder.glob("epoch-*.weights.h5"):
            if old != weights:
                old.unlink()


def _random_state(model: keras.Model) -> list[keras.Variable]:
    """The variables of the model's seed generators, in the order of its layers."""
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]
