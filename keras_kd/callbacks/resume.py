"""A callback that lets a killed training go on, bit for bit, from its last saved epoch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras


class Resume(keras.callbacks.Callback):
    """Saves weights, optimizer, epoch and history now and then; each save is whole or not there at all.

    Unlike `keras.callbacks.BackupAndRestore` it writes to a temporary name and renames, so a kill in the middle of
    a save leaves the save before it intact.

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
        self.history = state["history"]
        return state["epoch"]

    def clear(self) -> None:
        """Removes what was saved."""
        self._state_file.unlink(missing_ok=True)
        for leftover in self.folder.glob("*.weights.h5*"):
            leftover.unlink()
        if self.folder.exists():
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
        state = {"epoch": epoch, "weights": weights.name, "history": self.history}
        temporary = self._state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self._state_file)  # from here on the new weights count
        for old in self.folder.glob("*.weights.h5"):
            if old != weights:
                old.unlink()
