"""Records on disk, one per example and view, in shards that are written atomically.

    FOLDER/manifest.json                     the format of the records and the inputs they were computed from
    FOLDER/shards/view-00003.rows-000001024.of-09ab….6f3a….npy        records of rows 1024.. in view 3

A shard's name contains the identity of its manifest and a checksum (16 digits of a SHA-256 each). The checksum covers
the identity, view, first row and content, so a single rename publishes a shard together with all of them. To merge
shards built elsewhere, copy the files; shards of another cache are rejected.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_kd import files
from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.progress import bar
from keras_kd.teachers.cache import encodings
from keras_kd.teachers.cache.encodings import Encoding

VERSION = 2
_NAME = re.compile(r"view-(\d{5,})\.rows-(\d{9,})\.of-([0-9a-f]{16})\.([0-9a-f]{16})\.npy")


@dataclass(frozen=True)
class Manifest:
    """The contents of a store, as plain data.

    Attributes:
        teacher: the fingerprint of the teacher.
        pipeline: everything that determines the teacher's inputs, `Pipeline.identity()`.
        views: the number of views per example in the complete store.
        shard_size: rows per shard; the last shard of a view may have fewer.
        outputs, taps: the encoding of each output and inner layer, by name.
        activations: the activations of the teacher's outputs, by name.
    """

    teacher: str
    pipeline: dict[str, Any]
    views: int
    shard_size: int
    outputs: dict[str, dict[str, Any]]
    taps: dict[str, dict[str, Any]]
    activations: dict[str, str]
    version: int = VERSION

    @property
    def num_examples(self) -> int:
        return self.pipeline["num_examples"]

    @property
    def encodings(self) -> dict[str, Encoding]:
        return {name: encodings.from_config(config) for name, config in {**self.outputs, **self.taps}.items()}

    @property
    def record(self) -> np.dtype:
        """The dtype of one record: the fields of each output and tap."""
        return np.dtype([(name, encoding.fields) for name, encoding in self.encodings.items()])

    @property
    def num_bytes(self) -> int:
        """Total bytes of all records in all views."""
        return self.record.itemsize * self.num_examples * self.views

    @property
    def identity(self) -> str:
        """A hash of everything except `views`, which may grow: 16 hex digits."""
        settings = {key: value for key, value in asdict(self).items() if key != "views"}
        return files.digest_of_json(settings)[:16]

    def differences(self, other: Manifest) -> list[str]:
        """Describes each field in which `other` differs, except `views`."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        keys = [key for key in {**mine, **theirs} if key != "views" and mine.get(key) != theirs.get(key)]
        return [f"{key}: {mine.get(key)!r} in the cache, {theirs.get(key)!r} here" for key in keys]


class ShardKey(NamedTuple):
    """Identifies the records of a shard: those of `view`, starting at row `start`."""

    view: int
    start: int


class Shard(NamedTuple):
    """A file of the store and the contents of its name: the shard key, the manifest's identity and a checksum."""

    file: Path
    key: ShardKey
    identity: str
    checksum: str

    @classmethod
    def named(cls, file: Path) -> Shard | None:
        """Parses a file name; None if it is not a shard name or not a regular file (a pipe, a folder)."""
        match = _NAME.fullmatch(file.name)
        if match is None or not file.is_file():
            return None
        return cls(file, ShardKey(int(match[1]), int(match[2])), match[3], match[4])

    @property
    def is_whole(self) -> bool:
        """Whether the content matches the checksum in the name."""
        try:
            return _checksum(self.identity, self.key, self.file.read_bytes()) == self.checksum
        except FileNotFoundError:  # another process building this cache has just replaced it
            return False


class Store:
    """The shards of one folder."""

    def __init__(self, path: str | Path, manifest: Manifest):
        self.path = Path(path)
        self.manifest = manifest
        self._opened: dict[ShardKey, np.ndarray] = {}
        self._files: dict[ShardKey, Path] | None = None

    @classmethod
    def read(cls, path: str | Path) -> Store:
        """Opens the store in a folder from its manifest.

        Raises:
            TeacherError: the manifest is missing, unreadable or of another version.
        """
        file = Path(path) / "manifest.json"
        if not file.exists():
            raise TeacherError(
                explain("No teacher cache found.", received=str(path), expected=f"a folder with {file.name}")
            )
        try:
            content = json.loads(file.read_text("utf-8"))
            if content.get("version") != VERSION:
                raise ValueError(f"version {content.get('version')!r}; only version {VERSION} is supported")
            store = cls(path, Manifest(**content))
            store.keys(), store.manifest.record  # noqa: B018 - both raise if the manifest is invalid
            return store
        except (ValueError, TypeError, AttributeError, KeyError, ConfigurationError) as error:
            raise TeacherError(
                explain(
                    "The manifest of this teacher cache cannot be read.",
                    received=f"{file}: {error}",
                    expected="a manifest written by CachedTeacher.build",
                    fix="Rebuild the cache in an empty folder.",
                )
            ) from error

    def write_manifest(self, *, replace: bool) -> None:
        """Writes the manifest; without `replace`, keeps one that another process has written in the meantime."""
        (self.path / "shards").mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(self.manifest), indent=1) + "\n"
        files.write(self.path / "manifest.json", content, keep_existing=not replace)

    def describe(self) -> dict[str, Any]:
        """The manifest, bytes and shards as plain data."""
        files = self.files()
        return {
            **asdict(self.manifest),
            "bytes_per_example_and_view": self.manifest.record.itemsize,
            "bytes": sum(file.stat().st_size for file in files.values()),
            "shards": len(files),
            "shards_expected": len(self.keys()),
        }

    # Listing shards.

    def keys(self) -> list[ShardKey]:
        """The keys of all shards in the complete store."""
        starts = range(0, self.manifest.num_examples, self.manifest.shard_size)
        return [ShardKey(view, start) for view in range(self.manifest.views) for start in starts]

    def rows(self, key: ShardKey) -> np.ndarray:
        """The example ids of a shard, int64."""
        return np.arange(key.start, min(key.start + self.manifest.shard_size, self.manifest.num_examples))

    def files(self) -> dict[ShardKey, Path]:
        """The existing file of each shard of this store, intact or damaged."""
        return {shard.key: shard.file for shard in self._own()}

    def foreign_files(self) -> list[Path]:
        """Array files that do not belong to this store: of another manifest, or without a shard name."""
        own = {shard.file for shard in self._own()}
        return [file for file in self._arrays() if file not in own]

    def damaged(self, *, progress: bool = False) -> list[Path]:
        """Shards whose content does not match their checksum; reads every file."""
        own = self._own()
        damaged = []
        with bar("verify the teacher cache", len(own), unit="shards", shown=progress) as advance:
            for shard in own:
                damaged += [] if shard.is_whole else [shard.file]
                advance()
        return damaged

    def _own(self) -> list[Shard]:
        named = [Shard.named(file) for file in self._arrays()]
        identity = self.manifest.identity
        return [shard for shard in named if shard is not None and shard.identity == identity]

    def _arrays(self) -> list[Path]:
        return sorted(file for file in (self.path / "shards").glob("*.npy") if not file.name.startswith("."))

    # Writing and reading.

    def write(self, key: ShardKey, records: np.ndarray) -> None:
        """Writes a shard atomically: a killed write leaves no partial shard."""
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        content = buffer.getvalue()
        old = self.files().get(key)
        identity = self.manifest.identity
        name = f"view-{key.view:05d}.rows-{key.start:09d}.of-{identity}.{_checksum(identity, key, content)}.npy"
        files.write(self.path / "shards" / name, content)
        if old is not None and old.name != name:
            old.unlink(missing_ok=True)

    def lookup(self, ids: np.ndarray, view: int) -> np.ndarray:
        """The records of these examples, `[b]`."""
        records = np.empty(len(ids), self.manifest.record)
        starts = ids - ids % self.manifest.shard_size
        for start in np.unique(starts):
            of_shard = starts == start
            records[of_shard] = self._shard(ShardKey(view, int(start)))[ids[of_shard] - start]
        return records

    def _shard(self, key: ShardKey) -> np.ndarray:
        if key not in self._opened:
            if any(other.view != key.view for other in self._opened):
                self._opened = {}  # an epoch reads one view; close the files of the previous one
            if self._files is None:
                self._files = self.files()
            self._opened[key] = self._load(key)
        return self._opened[key]

    def _load(self, key: ShardKey) -> np.ndarray:
        expected = (len(self.rows(key)), self.manifest.record)
        try:
            records = np.load(self._files[key], mmap_mode="r", allow_pickle=False)
            if (len(records), records.dtype) != expected:
                raise ValueError(f"{len(records)} records of {records.dtype}")
            return records
        except (KeyError, OSError, ValueError, EOFError) as error:
            raise TeacherError(
                explain(
                    f"A shard of the teacher cache in {self.path} cannot be read.",
                    received=f"view {key.view}, rows from {key.start}: {error}",
                    expected="an unchanged file",
                    fix="CachedTeacher.build with the same settings rebuilds only this shard.",
                )
            ) from error


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: _plain(value)}
    parts = [_flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))


def _checksum(identity: str, key: ShardKey, content: bytes) -> str:
    return files.digest(f"{identity} {key.view} {key.start}\n", content)[:16]
