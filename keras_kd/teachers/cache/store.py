"""Records on disk, one for each example and view, in shards that are whole or not there.

    FOLDER/manifest.json                     what the records are and what they were made of
    FOLDER/shards/view-00003.rows-000001024.of-09ab….6f3a….npy        records of rows 1024.. in view 3

The name of a shard holds the identity of its manifest and a checksum (16 digits of a SHA-256 each). The checksum covers
the identity, view, first row and content, so one rename puts a shard in place together with all of them. Shards made
elsewhere are merged by copying the files; those of another cache are refused.
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
    """What lies in a store, in plain data.

    Attributes:
        teacher: the fingerprint of the teacher that was asked.
        pipeline: what its inputs depended on, `Pipeline.identity()`.
        views: how many views of each example there are to be.
        shard_size: rows in a shard; the last one of a view may have fewer.
        outputs, taps: the encoding of each output and inner layer by name.
        activations: of the teacher's outputs, by name.
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
        """One record: the fields of each output and tap."""
        return np.dtype([(name, encoding.fields) for name, encoding in self.encodings.items()])

    @property
    def num_bytes(self) -> int:
        """Of all records of all views."""
        return self.record.itemsize * self.num_examples * self.views

    @property
    def identity(self) -> str:
        """A hash of all but the number of views, which may grow: 16 hex digits."""
        made_of = {key: value for key, value in asdict(self).items() if key != "views"}
        return files.digest_of_json(made_of)[:16]

    def differences(self, other: Manifest) -> list[str]:
        """In words, where `other` is made of something else; more or fewer views are no difference."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        keys = [key for key in {**mine, **theirs} if key != "views" and mine.get(key) != theirs.get(key)]
        return [f"{key}: {mine.get(key)!r} in the cache, {theirs.get(key)!r} here" for key in keys]


class ShardKey(NamedTuple):
    """Which records a shard holds: those of `view` from row `start` on."""

    view: int
    start: int


class Shard(NamedTuple):
    """A file of the store, and what its name says: its records, the identity of its manifest, and its checksum."""

    file: Path
    key: ShardKey
    identity: str
    checksum: str

    @classmethod
    def named(cls, file: Path) -> Shard | None:
        """None for a file that is not called as shards are, or is not a file (a pipe, a folder)."""
        match = _NAME.fullmatch(file.name)
        if match is None or not file.is_file():
            return None
        return cls(file, ShardKey(int(match[1]), int(match[2])), match[3], match[4])

    @property
    def is_whole(self) -> bool:
        """Whether the content is what the name says."""
        try:
            return _checksum(self.identity, self.key, self.file.read_bytes()) == self.checksum
        except FileNotFoundError:  # another process that builds this cache has just replaced it
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
        """Opens a folder by its manifest.

        Raises:
            TeacherError: there is none, it is not readable, or of another version.
        """
        file = Path(path) / "manifest.json"
        if not file.exists():
            raise TeacherError(
                explain("There is no teacher cache.", received=str(path), expected=f"a folder with {file.name}")
            )
        try:
            content = json.loads(file.read_text("utf-8"))
            if content.get("version") != VERSION:
                raise ValueError(f"version {content.get('version')!r}, and this is version {VERSION}")
            store = cls(path, Manifest(**content))
            store.keys(), store.manifest.record  # noqa: B018 - both fail where the content is not a manifest's
            return store
        except (ValueError, TypeError, AttributeError, KeyError, ConfigurationError) as error:
            raise TeacherError(
                explain(
                    "The manifest of this teacher cache cannot be read.",
                    received=f"{file}: {error}",
                    expected="what CachedTeacher.build writes",
                    fix="Build the cache anew in an empty folder.",
                )
            ) from error

    def write_manifest(self, *, replace: bool) -> None:
        """Without `replace`, a manifest that another process has put in place meanwhile stays."""
        (self.path / "shards").mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(self.manifest), indent=1) + "\n"
        files.write(self.path / "manifest.json", content, keep_existing=not replace)

    def describe(self) -> dict[str, Any]:
        """The manifest, bytes and shards, in plain data."""
        files = self.files()
        return {
            **asdict(self.manifest),
            "bytes_per_example_and_view": self.manifest.record.itemsize,
            "bytes": sum(file.stat().st_size for file in files.values()),
            "shards": len(files),
            "shards_expected": len(self.keys()),
        }

    # Which shards there are.

    def keys(self) -> list[ShardKey]:
        """All shards that the store is to have."""
        starts = range(0, self.manifest.num_examples, self.manifest.shard_size)
        return [ShardKey(view, start) for view in range(self.manifest.views) for start in starts]

    def rows(self, key: ShardKey) -> np.ndarray:
        """The numbers of the examples of a shard, int64."""
        return np.arange(key.start, min(key.start + self.manifest.shard_size, self.manifest.num_examples))

    def files(self) -> dict[ShardKey, Path]:
        """The file of each shard of this store that is there, whether whole or not."""
        return {shard.key: shard.file for shard in self._own()}

    def strangers(self) -> list[Path]:
        """Arrays among the shards that are not of this store: of another manifest, or not named as shards are."""
        own = {shard.file for shard in self._own()}
        return [file for file in self._arrays() if file not in own]

    def damaged(self, *, progress: bool = False) -> list[Path]:
        """Shards whose content is not what their name says; every file is read."""
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
        """Puts a shard in place; killed in the middle, nothing of it is there."""
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
                self._opened = {}  # an epoch reads one view; the files of the last one need not stay open
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
                    expected="the file as it was written",
                    fix="CachedTeacher.build with the same settings makes it anew, and no others.",
                )
            ) from error


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: _plain(value)}
    parts = [_flat(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


def _checksum(identity: str, key: ShardKey, content: bytes) -> str:
    return files.digest(f"{identity} {key.view} {key.start}\n", content)[:16]
