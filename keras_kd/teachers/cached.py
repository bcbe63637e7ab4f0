"""A teacher that is paid for once: its answers lie on disk, one for each example and view."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data import Pipeline
from keras_kd.data.checks import check_integer
from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.progress import bar
from keras_kd.serialization import nearest, register
from keras_kd.teachers.base import CarriedTeacher, Teacher
from keras_kd.teachers.encodings import Encoding, Rows, TopK
from keras_kd.teachers.frozen import AbsentTeacher, as_teacher
from keras_kd.teachers.running import Runner
from keras_kd.teachers.store import Manifest, ShardKey, Store

_SHARDS_A_VIEW = 256
_ROWS_A_SHARD = 1024
_BATCH_SIZE = 64


@register
class CachedTeacher(CarriedTeacher):
    """The stored answers of a teacher, served beside the batches of the pipeline that they were made of.

        cached = kd.teachers.CachedTeacher.build(teacher, pipeline, "cache/", views=8)
        distiller = kd.Distiller(cached, student, alpha=0.9)
        distiller.fit(pipeline.with_teacher(cached), epochs=240)

    Epoch `e` sees view `e % views`: the pixels that the teacher saw, and what it said of them. The teacher itself is not in
    memory. `build` makes a cache or goes on with one, `open` takes one that is complete.

    Source: Z. Shen and E. Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", 2022; K. Wu et al.,
    "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022.
    """

    def __init__(self, path: str | Path, *, verify: bool = True, progress: bool = False):
        self.path = Path(path)
        self._store = Store.read(self.path)
        self._encodings = self._store.manifest.encodings
        if verify:
            _check_whole(self._store, progress)

    @classmethod
    def open(
        cls, path: str | Path, *, teacher: Any = None, verify: bool = True, progress: bool = False
    ) -> CachedTeacher:
        """A complete cache, checked before it serves.

        Args:
            path: its folder.
            teacher: where given, the cache has to be of this one.
            verify: reads every shard and compares its checksum; otherwise only that they are all there is checked.
            progress: shows a bar.

        Raises:
            TeacherError: no cache, one that is not complete, damaged shards, or another teacher.
        """
        cached = cls(path, verify=verify, progress=progress)
        if not verify:
            _check_complete(cached._store)
        if teacher is not None:
            _check_teacher(cached._store.manifest, as_teacher(teacher))
        return cached

    @classmethod
    def build(
        cls,
        teacher: Any,
        pipeline: Pipeline,
        path: str | Path,
        *,
        views: int = 1,
        top_k: int | None = None,
        remainder: str = "uniform",
        sampling_temperature: float = 1.0,
        taps: Sequence[str] = (),
        dtype: str = "float16",
        shard: int = 0,
        num_shards: int = 1,
        shard_size: int | None = None,
        batch_size: int = _BATCH_SIZE,
        progress: bool = True,
    ) -> CachedTeacher | None:
        """Asks the teacher about each example in each view and writes the answers down.

        What is there already is verified and kept, so an interrupted build goes on, one with more `views` adds to what
        there is, and damaged shards are made anew. Killed at any moment it loses at most the shard in work. Several
        processes or machines may build one cache, each with its own `shard`; shards built in another folder are merged
        by copying the files of its `shards/`.

        Args:
            teacher: a Keras model, the path of a `.keras` file, or any `keras_kd` teacher.
            pipeline: the inputs: source, augmentation and its seed. Batch size and order do not matter.
            path: the folder.
            views: how many augmented views of each example; 1 where the pipeline does not augment.
            top_k: how many classes of each output to keep; None keeps whole rows.
            remainder: what becomes of the mass of the other classes: `"uniform"`, `"renormalised"` or `"sampled"`, see
                `keras_kd.teachers.encodings.TopK`.
            sampling_temperature: of `"sampled"`.
            taps: paths of inner layers to store besides, whole.
            dtype: `"float16"` or `"float32"`, of whole rows and taps.
            shard, num_shards: this process builds every `num_shards`-th shard, beginning with number `shard`.
            shard_size: rows a shard; None chooses (1024, more for large sources).
            batch_size: of the teacher, in examples.
            progress: says what it will cost and shows a bar with rate and remaining time.

        Returns:
            The cache; None where shares of other processes are still missing.

        Raises:
            TeacherError: the folder holds a cache of another teacher, other data, another augmentation or encoding; or
                the teacher's answers cannot be stored.
            ConfigurationError: settings out of range, or a disk that is too small.
        """
        teacher = as_teacher(teacher)
        views = check_integer("views", views, at_least=1) if pipeline.augment else 1
        num_shards = check_integer("num_shards", num_shards, at_least=1)
        shard = check_integer("shard", shard, at_least=0, at_most=num_shards - 1)
        runner = Runner(teacher, taps)
        made_of = {
            "teacher": teacher.fingerprint,
            "pipeline": pipeline.identity(),
            "views": views,
            "shard_size": shard_size or max(_ROWS_A_SHARD, -(-pipeline.num_examples // _SHARDS_A_VIEW)),
            "activations": dict(teacher.activations),
        }
        samples = _sample(runner, pipeline, batch_size)
        _check_taps(taps, samples)
        encode = {name: _encoding(name, value, taps, top_k, remainder, sampling_temperature, dtype)
                  for name, value in samples.items()}  # fmt: skip
        outputs = {name: encoding.get_config() for name, encoding in encode.items() if name not in taps}
        tapped = {name: encode[name].get_config() for name in taps}
        store = _opened(path, Manifest(outputs=outputs, taps=tapped, **made_of))
        _Builder(store, runner, pipeline, encode, batch_size, progress).build(shard, num_shards)
        return cls.open(path, verify=False) if len(store.files()) >= len(store.keys()) else None

    # What a distiller and a pipeline ask.

    @property
    def views(self) -> int:
        return self._store.manifest.views

    def answers(self, ids, view, x):
        records = self._store.lookup(ids, view)
        return {name: encoding.decode(records[name]) for name, encoding in self._encodings.items()}

    def decode(self, answers, taps):
        return {name: value for name, value in answers.items() if name in self._store.manifest.outputs or name in taps}

    def check_pipeline(self, pipeline: Any) -> None:
        manifest = self._store.manifest
        here = Manifest(**{**vars(manifest), "pipeline": pipeline.identity()})
        if differences := manifest.differences(here):
            raise TeacherError(
                explain(
                    f"The teacher cache in {self.path} was made of other inputs than this pipeline gives.",
                    received="; ".join(differences),
                    expected="the same source in the same order, and the same augmentation with the same seed",
                    fix=_advice(differences),
                )
            )

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        manifest = self._store.manifest
        taps = [name for name in names if name not in manifest.outputs]
        for name in taps:
            if name not in manifest.taps:
                stored = ", ".join(map(repr, manifest.taps)) or "none"
                raise ConfigurationError(
                    explain(
                        "This inner layer of the teacher is not in its cache.",
                        received=repr(name),
                        expected=f"one of the stored layers ({stored}) or outputs ({', '.join(manifest.outputs)})",
                        fix=nearest(name, manifest.taps) or f"Build the cache with taps=[{name!r}], in another folder.",
                    )
                )
        return {name: (None, *manifest.taps[name]["shape"]) for name in taps}

    @property
    def fingerprint(self) -> str:
        return self._store.manifest.teacher

    @property
    def output_shapes(self):
        outputs = self._store.manifest.outputs
        return {name: (None, *config.get("shape", [config.get("num_classes")])) for name, config in outputs.items()}

    @property
    def activations(self) -> dict[str, str]:
        return self._store.manifest.activations

    def describe(self) -> dict[str, Any]:
        """What the cache holds, in plain data: the manifest, bytes and shards."""
        manifest, files = self._store.manifest, self._store.files()
        return {
            **vars(manifest),
            "bytes_per_example_and_view": manifest.record.itemsize,
            "bytes": sum(file.stat().st_size for file in files.values()),
            "shards": len(files),
            "shards_expected": len(self._store.keys()),
        }

    def get_config(self) -> dict[str, Any]:
        return {"path": str(self.path.resolve()), "fingerprint": self.fingerprint}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The cache where it is still there, else an `AbsentTeacher` that says so when it is needed."""
        if not (Path(config["path"]) / "manifest.json").exists():
            return AbsentTeacher(config["path"], None, config["fingerprint"])
        return cls(config["path"])


class _Builder:
    """Fills a store with the shards that it lacks."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        pipeline: Pipeline,
        encode: dict[str, Encoding],
        batch_size: int,
        progress: bool,
    ):
        self._store = store
        self._runner = runner
        self._pipeline = pipeline
        self._encode = encode
        self._batch_size = check_integer("batch_size", batch_size, at_least=1)
        self._progress = progress

    def build(self, shard: int, num_shards: int) -> None:
        store = self._store
        for key in store.damaged(progress=self._progress and bool(store.files())):
            store.remove(key)
        there, mine = store.files(), store.keys()[shard::num_shards]
        missing = [key for key in mine if key not in there]
        _check_room(store, sum(len(store.rows(key)) for key in missing))
        if self._progress:
            _say(store, len(mine) - len(missing), len(mine))
        total = sum(len(store.rows(key)) for key in mine)
        done = total - sum(len(store.rows(key)) for key in missing)
        with bar("teacher cache", total, done=done, unit="views", shown=self._progress) as advance:
            for key, pieces in self._inputs(missing):
                store.write(key, np.concatenate([self._records(*piece, key.view, advance) for piece in pieces]))

    def _records(self, ids: np.ndarray, x: Any, view: int, advance: Any) -> np.ndarray:
        said = self._runner(ids, view, x)
        records = np.empty(len(ids), self._store.manifest.record)
        draws = Draws(0, ids, view)
        for name, encoding in self._encode.items():
            for field, value in encoding.encode(said[name], draws.under(name)).items():
                records[name][field] = value
        advance(len(ids))
        return records

    def _inputs(self, keys: list[ShardKey]) -> Iterator[tuple[ShardKey, Iterator[tuple[np.ndarray, Any]]]]:
        """Each shard with its inputs in pieces of the teacher's batch size."""
        if not self._pipeline.examples.random_access:
            yield from self._streamed(keys)
            return
        for key in keys:
            rows = self._store.rows(key)
            pieces = (rows[start : start + self._batch_size] for start in range(0, len(rows), self._batch_size))
            yield key, ((ids, self._pipeline.batch(ids, key.view)[0]) for ids in pieces)

    def _streamed(self, keys: list[ShardKey]) -> Iterator[tuple[ShardKey, Iterator[tuple[np.ndarray, Any]]]]:
        """As `_inputs`, from a source that has to be read in order: once for each view that lacks something.

        Where examples carry ids of their own, the order is not that of the ids; then rows are collected by shard.
        """
        wanted = set(keys)
        for view in sorted({key.view for key in keys}):
            waiting: dict[int, list[tuple[np.ndarray, Any]]] = {}
            for ids, parts in self._pipeline.in_order(self._batch_size, view):
                starts = ids - ids % self._store.manifest.shard_size
                for start in map(int, np.unique(starts)):
                    key = ShardKey(view, start)
                    if key not in wanted:
                        continue
                    rows = starts == start
                    waiting.setdefault(start, []).append((ids[rows], parts[0][rows]))
                    if sum(len(piece[0]) for piece in waiting[start]) == len(self._store.rows(key)):
                        yield key, iter(waiting.pop(start))


def _sample(runner: Runner, pipeline: Pipeline, batch_size: int) -> dict[str, np.ndarray]:
    """The answers about the first examples, from which names and shapes are read."""
    ids, parts = next(pipeline.in_order(batch_size))
    return runner(ids, 0, parts[0])


def _encoding(
    name: str,
    value: np.ndarray,
    taps: Sequence[str],
    top_k: int | None,
    remainder: str,
    temperature: float,
    dtype: str,
) -> Encoding:
    if top_k is None or name in taps:
        return Rows(value.shape[1:], dtype)
    if value.ndim != 2 or value.shape[-1] <= top_k:
        raise ConfigurationError(
            explain(
                f"'top_k' does not fit the teacher's output {name!r}.",
                received=f"top_k={top_k}, shape {(None, *value.shape[1:])}",
                expected="fewer than its classes, of an output [batch, classes]",
                fix="top_k=None keeps whole rows.",
            )
        )
    return TopK(top_k, int(value.shape[-1]), remainder, temperature)


def _opened(path: str | Path, manifest: Manifest) -> Store:
    """The store in this folder, new or gone on with."""
    if not (Path(path) / "manifest.json").exists():
        store = Store(path, manifest)
        store.write_manifest()
        return store
    found = Store.read(path)
    if differences := found.manifest.differences(manifest):
        raise TeacherError(
            explain(
                f"{path} holds another teacher cache.",
                received="; ".join(differences),
                expected="the cache that is to be built, or an empty folder",
                fix="Build in another folder, or delete this one.",
            )
        )
    if manifest.views > found.manifest.views:
        found = Store(path, manifest)
        found.write_manifest()
    return found


def _check_whole(store: Store, progress: bool) -> None:
    """Raises `TeacherError` where shards are missing or damaged."""
    _check_complete(store)
    if damaged := store.damaged(progress=progress):
        names = ", ".join(store.files()[key].name for key in damaged[:3])
        raise TeacherError(
            explain(
                f"{len(damaged)} of {len(store.keys())} shards of the teacher cache in {store.path} are damaged.",
                received=f"another content than their checksum says: {names}{', ...' if len(damaged) > 3 else ''}",
                expected="files as they were written",
                fix="CachedTeacher.build with the same settings makes these shards anew, and no others.",
            )
        )


def _check_complete(store: Store) -> None:
    missing = set(store.keys()) - set(store.files())
    if missing:
        raise TeacherError(
            explain(
                f"The teacher cache in {store.path} is not complete.",
                received=f"{len(store.keys()) - len(missing)} of {len(store.keys())} shards",
                expected="all of them",
                fix="CachedTeacher.build with the same settings goes on where it stopped.",
            )
        )


def _check_teacher(manifest: Manifest, teacher: Teacher) -> None:
    if manifest.teacher != teacher.fingerprint:
        raise TeacherError(
            explain(
                "The cache is of another teacher.",
                received=f"a cache of {manifest.teacher}",
                expected=f"one of {teacher.fingerprint}",
            )
        )


def _check_taps(taps: Sequence[str], said: dict[str, np.ndarray]) -> None:
    if missing := [path for path in taps if path not in said]:
        raise ConfigurationError(
            explain("The teacher does not give these layers.", received=missing, expected=f"of {sorted(said)}")
        )


def _check_room(store: Store, num_records: int) -> None:
    needed, free = num_records * store.manifest.record.itemsize, shutil.disk_usage(store.path).free
    if needed > free:
        raise ConfigurationError(
            explain(
                "The disk is too small for this teacher cache.",
                received=f"{_size(free)} free in {store.path}",
                expected=f"{_size(needed)}: {num_records:,} answers of {store.manifest.record.itemsize:,} bytes",
                fix="Keep fewer classes (top_k=10), fewer views, no inner layers, or take another disk.",
            )
        )


def _say(store: Store, num_done: int, num_mine: int) -> None:
    """What the build costs and when it pays."""
    from rich.console import Console

    manifest, views = store.manifest, store.manifest.views
    lines = [
        f"Teacher cache in {store.path}: {manifest.num_examples:,} examples x {views} view{'s' * (views > 1)} x "
        f"{manifest.record.itemsize} bytes = {_size(manifest.num_bytes)}.",
        f"It costs {views} pass{'es' * (views > 1)} of the teacher over the data, what {views} epoch{'s' * (views > 1)} "
        f"with a live teacher would; every further epoch, seed or student is then free of the teacher.",
    ]
    if num_done:
        lines.append(f"{num_done} of {num_mine} shards are there already.")
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _advice(differences: list[str]) -> str:
    if any(line.startswith("pipeline.augment_seed") for line in differences):
        return "Pass the pipeline the augment_seed of the cache; its seed, the order of training, may be any."
    return "Make the pipeline as it was, or build another cache."


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} TiB"
