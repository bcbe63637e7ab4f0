"""A finished training on disk."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import keras

from keras_kd import files
from keras_kd.chain.result import TrainingRecord
from keras_kd.locks import locked
from keras_kd.teachers import fingerprint


class TrainingFile:
    """`training-1.keras` with a trained model, and `training-1.json`, which identifies the training that made it."""

    def __init__(self, folder: Path, number: int, key: str):
        self._folder = folder
        self._name = f"training-{number}"
        self._key = key

    def unfinished(self, initial: str) -> Path:
        """Where the state of this training is saved until it is finished."""
        return self._folder / f"{self._name}-{self._key}-{initial.removeprefix('sha256:')[:16]}"

    def load(self, student: keras.Model) -> TrainingRecord | None:
        """Loads the trained weights into a student; returns None if no such training was finished.

        The student may have its initial weights, or already the trained ones from the call that trained it.
        """
        stamp, file = files.read_json(self._folder / f"{self._name}.json"), self._folder / f"{self._name}.keras"
        if stamp is None or not file.exists():
            return None
        if stamp["key"] != self._key or fingerprint(student) not in (stamp["initial"], stamp["final"]):
            return None
        student.load_weights(file)
        return TrainingRecord(**stamp["record"] | {"teachers": tuple(stamp["record"]["teachers"])})

    def save(self, student: keras.Model, initial: str, record: TrainingRecord) -> None:
        """Writes both files, each atomically. After a kill between the two, the training counts as unfinished."""
        with files.replacing(self._folder / f"{self._name}.keras") as draft:
            student.save(draft)
            (self._folder / f"{self._name}.json").unlink(missing_ok=True)
        stamp = {"key": self._key, "initial": initial, "final": fingerprint(student)}
        files.write_json(self._folder / f"{self._name}.json", stamp | {"record": dataclasses.asdict(record)})


def alone_in(folder: str | Path | None) -> contextlib.AbstractContextManager[None]:
    """Locks the folder against other calls; None locks nothing."""
    return contextlib.nullcontext() if folder is None else locked(Path(folder) / ".lock")
