"""The folder of a run: what is done stays done, and what an interruption left half done is done again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


class RunFolder:
    """Remembers which stage was finished with which settings.

    A stage is finished when its stamp, a small JSON file in `.state/`, names the settings it was run with and its
    files are there. Stamps are written last and whole, so a kill at any moment leaves a folder that can be taken up.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.state = self.path / ".state"

    def finished(self, stage: str, key: str, *files: Path) -> dict[str, Any] | None:
        """What `finish` kept for this stage and key, or None where it has to be run."""
        stamp = self.stamp(stage)
        if stamp is None or stamp["key"] != key or not all(file.exists() for file in files):
            return None
        return stamp["result"]

    def stamp(self, stage: str) -> dict[str, Any] | None:
        """The stamp of a stage whatever its settings were, or None."""
        file = self.state / f"{stage}.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    def finish(self, stage: str, key: str, result: dict[str, Any]) -> dict[str, Any]:
        """Marks a stage as done; returns `result`."""
        write_atomically(self.state / f"{stage}.json", json.dumps({"key": key, "result": result}, indent=1))
        return result


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def save_model(model: Any, path: Path) -> None:
    """Saves a Keras model so that `path` is never a part of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("saving-" + path.name)
    model.save(temporary)
    temporary.replace(path)


def settings_key(*settings: Any) -> str:
    """A short hash of plain settings; the same in another process."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
