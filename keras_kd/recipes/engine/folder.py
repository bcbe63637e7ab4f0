"""The folder of a run: its lock, the identity of its recipe, and the stamps of finished stages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from keras_kd import files
from keras_kd.errors import RecipeError, explain
from keras_kd.locks import locked

FINGERPRINT = " fingerprint"  # the suffix of settings that are hashes, which messages do not show
_RESULTS = ("student.keras", "student_*.tflite", "report.json", "report.html", "history.json", "labels.txt")


class RunFolder:
    """The folder of one recipe, used by one run at a time; `keras_kd.recipes.engine.stamps` interprets the stamps."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.state = self.path / ".state"

    # One run at a time, of one recipe.

    @contextlib.contextmanager
    def held(self, identity: Mapping[str, str], *, overwrite: bool = False, shared: bool = False) -> Iterator[None]:
        """Locks the folder for this run; raises if it belongs to another recipe.

        Args:
            identity: the values that distinguish recipes (data and models), by key.
            overwrite: accept the folder of another recipe.
            shared: admit other processes that also hold it shared.

        Raises:
            RecipeError: another process is using the folder, or it contains the results of another recipe.
            StorageError: the disk is full or not writable.
        """
        self._check_identity(identity, overwrite)  # before anything is written
        with files.storage_errors(self.path), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.state / "lock", shared=shared))
            except ValueError as error:
                raise RecipeError(f"output_dir: {error}") from error
            self._check_identity(identity, overwrite)
            if self._identity() != identity:
                files.write_json(self.state / "recipe.json", dict(identity))
            if not shared:
                self._sweep()
            yield

    def _identity(self) -> dict[str, str] | None:
        return files.read_json(self.state / "recipe.json")

    def _check_identity(self, identity: Mapping[str, str], overwrite: bool) -> None:
        if overwrite:
            return
        known = self._identity()
        if known is None:
            others = [file.name for pattern in _RESULTS for file in sorted(self.path.glob(pattern))]
            problem, received = "the folder contains files that no run of this recipe wrote", ", ".join(others)
        else:
            problem = "the folder contains the results of another recipe"
            received = ", ".join(changes(known, identity))
        if received:
            raise RecipeError(
                explain(
                    f"output_dir: {problem}.",
                    received=f"{self.path}: {received}",
                    expected="a new folder, or one of this recipe",
                    fix="Choose another folder, or replace the existing results with --overwrite.",
                )
            )

    def _sweep(self) -> None:
        """Removes partially written files of a killed process."""
        for file in self.state.glob("saving-*"):
            file.unlink()
        files.remove_partial(self.state)
        files.remove_partial(self.path)

    # Stages.

    def wrote(self, id: str, file: Path) -> bool:
        """Whether the stage with this id wrote the existing file, with any settings."""
        stamp = self.stamp(id)
        return stamp is not None and digest(file) in (stamp["digest"], stamp["replaced"])

    def draft(self, file: Path) -> Path:
        """The path where a file is written before it is moved into place."""
        self.state.mkdir(parents=True, exist_ok=True)
        return self.state / f"saving-{file.name}"

    def outdated(self, planned: Set[str], contents: Mapping[str, str | None]) -> Iterator[tuple[str, Path]]:
        """Ids and result files of stages that are no longer planned and whose inputs have changed since.

        Args:
            planned: the ids of the stages of this run.
            contents: the digests of the artifacts of this run, by stage id.
        """
        for path in sorted(self.state.glob("*.json")):
            stamp = self.stamp(path.stem)
            if path.stem in planned or stamp is None or not stamp["file"]:
                continue
            file = Path(stamp["file"])
            has_changed = any(contents.get(id, digest) != digest for id, digest in stamp["read"].items())
            if has_changed and file.parent == Path():  # a result, not a file in `.state`
                yield path.stem, self.path / file

    def discard(self, id: str) -> bool:
        """Removes the file of a stage and its stamp if the stage wrote that file; returns whether it did."""
        stamp = self.stamp(id)
        file = stamp and stamp["file"] and self.path / stamp["file"]
        if not file or not file.exists() or not self.wrote(id, file):
            return False
        file.unlink()
        (self.state / f"{id}.json").unlink()
        return True

    def stamp(self, id: str) -> dict[str, Any] | None:
        """The stamp of the stage with this id; None if it is not finished."""
        stamp = files.read_json(self.state / f"{id}.json")
        return stamp if stamp is not None and _STAMP <= set(stamp) else None


_STAMP = {"key", "settings", "inputs", "read", "file", "record", "digest", "replaced"}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The differences between two settings as text; hashes are named only if nothing else differs.

    >>> changes({"epochs": 25, "seed": 0, "data fingerprint": "a"}, {"epochs": 3, "seed": 0, "data fingerprint": "b"})
    ['epochs 25 -> 3']
    >>> changes({"data fingerprint": "a"}, {"data fingerprint": "b"})
    ['the data changed']
    """
    before, after = dict(_flat(before)), dict(_flat(after))
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    named = [f"{key} {_shown(before.get(key))} -> {_shown(after.get(key))}" for key in keys if FINGERPRINT not in key]
    return named or [f"the {key.removesuffix(FINGERPRINT)} changed" for key in keys]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextlib.contextmanager
def removed_on_error(*drafts: Path) -> Iterator[None]:
    """Removes drafts after an error; a killed process leaves them."""
    try:
        yield
    except Exception:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        raise


def digest(file: Path) -> str | None:
    """The SHA-256 of a file's content; None if there is no file."""
    return files.digest_of_file(file) if file.exists() else None


def settings_key(*settings: Any) -> str:
    """A short hash of plain settings; the same in another process."""
    return files.digest_of_json(settings, default=str)[:16]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings after a round trip through JSON."""
    return json.loads(json.dumps(settings, default=str))
