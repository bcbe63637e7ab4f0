"""The files of a training in progress: checksummed, with at least one intact set at any time."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_kd import files
from keras_kd.errors import ConfigurationError, Notice, explain

_NUM_KEPT = 2
_OURS = re.compile(r"epoch-(\d+)\.(weights\.h5|arrays\.npz|json)")


class Saved(NamedTuple):
    """A state that was read and matches its checksums.

    Attributes:
        epoch: the number of completed epochs.
        state: plain data.
        arrays: its arrays, by key.
        weights: the weight file.
    """

    epoch: int
    state: dict[str, Any]
    arrays: dict[str, np.ndarray]
    weights: Path


class StateFolder:
    """The states of one training, each a set of files named after its epoch.

    `epoch-7.json` is written last, by rename, and holds the checksums of the other files and of itself. The previous
    set is kept as well, so that one damaged file does not cost the whole training.

    Args:
        path: the folder; created by the first save.
    """

    def __init__(self, path: Path):
        self.path = path
        self._good: list[int] = []

    def save(
        self,
        epoch: int,
        write_weights: Callable[[Path], Any],
        state: dict[str, Any],
        arrays: dict[str, np.ndarray],
        *,
        num_bytes: int = 1,
    ) -> None:
        """Writes a state, reads it back, and only then removes the oldest one.

        Args:
            epoch: the number of completed epochs.
            write_weights: writes the weight file.
            state, arrays: what else to save.
            num_bytes: the approximate size of the weight file; `OSError` is raised if the disk has less space.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        weights = self.path / f"epoch-{epoch}.weights.h5"
        files.check_space(weights, num_bytes)
        write_weights(weights)
        written = [weights]
        if arrays:
            written.append(self.path / f"epoch-{epoch}.arrays.npz")
            np.savez(written[1], **arrays)
        content = {"state": state, "files": {file.name: files.digest_of_file(file) for file in written}}
        signed = {"checksum": files.digest_of_json(content), **content}
        files.write(self.path / f"epoch-{epoch}.json", json.dumps(signed))  # from here on the new state is used
        self._read(epoch)
        self._good = [*(good for good in self._good if good < epoch), epoch][-_NUM_KEPT:]
        self._remove(lambda number: number not in self._good)

    def drop(self, epoch: int) -> None:
        """Removes the files of a failed save."""
        with contextlib.suppress(OSError):
            self._remove(lambda number: number == epoch)

    def load(self) -> Saved | None:
        """The newest intact state, None if nothing was saved.

        A damaged one is reported by a `Notice`, and the one before it is used.

        Raises:
            ConfigurationError: states were saved, and all of them are damaged.
        """
        damages = []
        for epoch in sorted(self._epochs(), reverse=True):
            try:
                saved = self._read(epoch)
            except _DAMAGES as error:
                damages.append(f"epoch-{epoch}: {error}")
                continue
            self._good = [epoch]
            if damages:
                warnings.warn(
                    f"The saved state {'; '.join(damages)} in {self.path} is damaged. The training resumes from the "
                    f"state before it, after epoch {epoch}.",
                    Notice,
                    stacklevel=2,
                )
            return saved
        if damages:
            raise ConfigurationError(
                explain(
                    f"The saved state of the training in {self.path} is damaged: {'; '.join(damages)}.",
                    expected="at least one intact state",
                    fix="Restore the files from a backup, or delete the folder to start over.",
                )
            )
        return None

    def clear(self) -> None:
        """Removes the states, and the folder if it is empty then."""
        self._remove(lambda number: True)
        self._good = []
        with contextlib.suppress(OSError):  # it does not exist, or holds other files
            self.path.rmdir()

    def _epochs(self) -> list[int]:
        return [int(match[1]) for file in self._files() if (match := _OURS.fullmatch(file.name)) and match[2] == "json"]

    def _files(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    def _remove(self, condition: Callable[[int], bool]) -> None:
        files.remove_partial(self.path)
        # the JSON files first: without them the others are ignored
        for file in sorted(self._files(), key=lambda file: file.suffix != ".json"):
            match = _OURS.fullmatch(file.name)
            if match and condition(int(match[1])):
                file.unlink(missing_ok=True)

    def _read(self, epoch: int) -> Saved:
        content = json.loads((self.path / f"epoch-{epoch}.json").read_text())
        checksum = content.pop("checksum")
        if checksum != files.digest_of_json(content):
            raise ValueError("the content of its .json does not match its checksum")
        for name, expected in content["files"].items():
            if files.digest_of_file(self.path / name) != expected:
                raise ValueError(f"the content of {name} does not match its checksum")
        arrays = {}
        if f"epoch-{epoch}.arrays.npz" in content["files"]:
            with np.load(self.path / f"epoch-{epoch}.arrays.npz", allow_pickle=False) as stored:
                arrays = dict(stored)
        return Saved(epoch, content["state"], arrays, self.path / f"epoch-{epoch}.weights.h5")


_DAMAGES = (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile)
