"""The folder of a run: what is done stays done, and what an interruption left half done is done again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


class RunFolder:
    """Remembers which stage was finished with which settings, and which file it left.

    A stage is finished when its stamp, a small JSON file in `.state/`, names the settings it was run with and the
    digest of the file that lies there. So a file that somebody else put in its place counts as theirs, and a kill at
    any moment leaves a folder that can be taken up.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.state = self.path / ".state"

    def finished(self, stage: str, key: str, file: Path) -> dict[str, Any] | None:
        """What `finish` kept for this stage, key and file, or None where it has to be run."""
        stamp = self._stamp(stage)
        if stamp is None or stamp["key"] != key or stamp["digest"] != digest(file):
            return None
        return stamp["result"]

    def wrote(self, stage: str, file: Path) -> bool:
        """Whether this stage wrote the file that lies there, with whatever settings."""
        stamp = self._stamp(stage)
        return stamp is not None and digest(file) in (stamp["digest"], stamp["replaced"])

    def finish(self, stage: str, key: str, result: dict[str, Any], file: Path, draft: Path | None = None) -> None:
        """Marks a stage as done, and moves its `draft` to `file` where there is one.

        The stamp comes first and names the file to be replaced too: killed before the move, the stage is not finished,
        and the file that still lies there is known as one of the run's own.
        """
        stamp = {"key": key, "result": result, "digest": digest(draft or file), "replaced": digest(file)}
        write_atomically(self.state / f"{stage}.json", json.dumps(stamp, indent=1))
        if draft is not None:
            draft.replace(file)

    def finish_model(self, stage: str, key: str, result: dict[str, Any], file: Path, model: Any) -> None:
        """Saves a Keras model, so that `file` is never a part of one, and marks its stage as done."""
        self.state.mkdir(parents=True, exist_ok=True)
        draft = self.state / f"saving-{file.name}"
        model.save(draft)
        self.finish(stage, key, result, file, draft)

    def _stamp(self, stage: str) -> dict[str, Any] | None:
        file = self.state / f"{stage}.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def digest(file: Path) -> str | None:
    """The SHA-256 of a file's content; None where there is no file."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def settings_key(*settings: Any) -> str:
    """A short hash of plain settings; the same in another process."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
