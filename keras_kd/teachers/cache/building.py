"""Builds a teacher cache: finds the missing shards and computes their teacher outputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from keras_kd.data import Pipeline
from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, TeacherError, check_integer, explain
from keras_kd.progress import bar
from keras_kd.quantities import human_bytes
from keras_kd.teachers.array_runner import TeacherRunner
from keras_kd.teachers.cache.encodings import Encoding, Rows, TopK
from keras_kd.teachers.cache.store import Manifest, ShardKey, Store

_MAX_DEVIATION = 0.1  # in standard deviations: another processor or precision causes far smaller differences


class Builder:
    """Writes the missing shards of a store."""

    def __init__(
        self,
        store: Store,
        runner: TeacherRunner,
        pipeline: Pipeline,
        encode: dict[str, Encoding],
        first: FirstOutputs,
        batch_size: int,
        progress: bool | Callable[[int], None],
    ):
        self._first = first
        self._store = store
        self._runner = runner
        self._pipeline = pipeline
        self._encode = encode
        self._batch_size = check_integer("batch_size", batch_size, at_least=1)
        self._progress = progress

    def build(self, shard: int, num_shards: int) -> None:
        store = self._store
        shown = self._progress is True
        for file in store.damaged(progress=shown and bool(store.files())):
            file.unlink(missing_ok=True)
        self._check_same_teacher()
        existing, assigned = store.files(), store.keys()[shard::num_shards]
        missing = [key for key in assigned if key not in existing]
        _check_disk_space(store, sum(len(store.rows(key)) for key in missing))
        if shown:
            _print_cost(store, len(assigned) - len(missing), len(assigned))
        total = sum(len(store.rows(key)) for key in assigned)
        done = total - sum(len(store.rows(key)) for key in missing)
        with bar("teacher cache", total, done=done, unit="views", shown=shown) as advance:
            if callable(self._progress):
                advance = self._progress
                advance(done)
            for key, pieces in self._inputs(missing):
                store.write(key, np.concatenate([self._records(*piece, key.view, advance) for piece in pieces]))

    def _records(self, ids: np.ndarray, parts: tuple[Any, ...], view: int, advance: Any) -> np.ndarray:
        is_known = self._first.matches(ids, view)
        outputs = self._first.outputs if is_known else self._runner(ids, view, *parts[:2])
        records = np.empty(len(ids), self._store.manifest.record)
        draws = Draws(0, ids, view)
        for name, encoding in self._encode.items():
            for field, value in encoding.encode(outputs[name], draws.under(name)).items():
                records[name][field] = value
        advance(len(ids))
        return records

    def _check_same_teacher(self) -> None:
        """Raises `TeacherError` if the stored outputs of the first examples differ from the teacher's.

        The fingerprint covers only the weights: changing a layer without weights, such as a rescaling, changes the
        outputs but not the fingerprint.
        """
        store, ids = self._store, self._first.ids
        starts = ids - ids % store.manifest.shard_size
        if not {ShardKey(0, int(start)) for start in starts} <= store.files().keys():
            return
        stored, now = store.lookup(ids, 0), self._records(ids, (), 0, lambda steps: None)
        for name in self._encode:
            if (deviation := _distance(stored[name], now[name])) > _MAX_DEVIATION:
                raise TeacherError(
                    explain(
                        f"The teacher's output {name!r} differs from the cache in {store.path} for the same examples.",
                        received=f"a mean difference of {deviation:.2g} standard deviations, with equal weights",
                        expected=f"at most {_MAX_DEVIATION:g}, from rounding",
                        fix="A layer without weights has changed (preprocessing, activation): build in another folder.",
                    )
                )

    def _inputs(self, keys: list[ShardKey]) -> Iterator[tuple[ShardKey, Iterator[tuple[np.ndarray, Any]]]]:
        """Yields each shard with its inputs, in pieces of the teacher's batch size."""
        if not self._pipeline.examples.random_access:
            yield from self._streamed(keys)
            return
        for key in keys:
            rows = self._store.rows(key)
            pieces = (rows[start : start + self._batch_size] for start in range(0, len(rows), self._batch_size))
            yield key, ((ids, self._pipeline.batch(ids, key.view)) for ids in pieces)

    def _streamed(self, keys: list[ShardKey]) -> Iterator[tuple[ShardKey, Iterator[tuple[np.ndarray, Any]]]]:
        """Like `_inputs`, for a source that must be read in order: one pass for each view with missing shards.

        If the source provides its own ids, examples may not arrive in id order, so rows are collected by shard.
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
                    waiting.setdefault(start, []).append((ids[rows], tree.map_structure(lambda a: a[rows], parts)))  # noqa: B023
                    if sum(len(piece[0]) for piece in waiting[start]) == len(self._store.rows(key)):
                        yield key, iter(waiting.pop(start))


def _distance(stored: np.ndarray, now: np.ndarray) -> float:
    """The mean absolute difference of the stored values, in standard deviations; 0 for random draws."""
    field = next((field for field in ("values", "value") if field in stored.dtype.names), None)
    if field is None:
        return 0.0
    one, other = stored[field].astype(np.float64), now[field].astype(np.float64)
    return float(np.abs(one - other).mean() / max(one.std(), other.std(), np.finfo(np.float32).tiny))


@dataclass(frozen=True)
class FirstOutputs:
    """The teacher outputs for the first examples, which define names and shapes."""

    ids: np.ndarray
    outputs: dict[str, np.ndarray]

    @classmethod
    def of_first(cls, runner: TeacherRunner, pipeline: Pipeline, batch_size: int) -> FirstOutputs:
        ids, parts = next(pipeline.in_order(batch_size))
        return cls(ids, runner(ids, 0, *parts[:2]))

    def matches(self, ids: np.ndarray, view: int) -> bool:
        return view == 0 and np.array_equal(ids, self.ids)


def encoding_of(
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
                f"Invalid 'top_k' for the teacher's output {name!r}.",
                received=f"top_k={top_k}, shape {(None, *value.shape[1:])}",
                expected="an output [batch, classes] with more than top_k classes",
                fix="Use top_k=None to keep whole rows.",
            )
        )
    return TopK(top_k, int(value.shape[-1]), remainder, temperature)


def opened(path: str | Path, manifest: Manifest) -> Store:
    """The store in this folder, either new or resumed."""
    if Path(path).exists() and not Path(path).is_dir():
        raise TeacherError(
            explain(
                "The path of a teacher cache must be a folder.",
                received=f"the file {path}",
                expected="an existing or new folder",
            )
        )
    if not (Path(path) / "manifest.json").exists():
        Store(path, manifest).write_manifest(replace=False)
    found = Store.read(path)  # another process may have created it in the meantime
    if differences := found.manifest.differences(manifest):
        raise TeacherError(
            explain(
                f"{path} contains a different teacher cache.",
                received="; ".join(differences),
                expected="the same teacher, pipeline and settings, or an empty folder",
                fix="Build in another folder, or delete this one.",
            )
        )
    if manifest.views > found.manifest.views:
        found = Store(path, manifest)
        found.write_manifest(replace=True)
    check_no_foreign_shards(found)
    return found


def check_no_foreign_shards(store: Store) -> None:
    """Raises `TeacherError` if the folder contains shards of another cache: another teacher or other inputs."""
    foreign = store.foreign_files()
    if not foreign:
        return
    names = ", ".join(file.name for file in foreign[:3])
    raise TeacherError(
        explain(
            f"{len(foreign)} files among the shards of the teacher cache in {store.path} do not belong to it.",
            received=f"shards/{names}{', ...' if len(foreign) > 3 else ''}",
            expected=f"files named view-*.rows-*.of-{store.manifest.identity}.*.npy, as its manifest requires",
            fix="Remove them. They were built with another teacher, other inputs or another encoding, or the manifest "
            "has changed since; only shards built with the same settings can be merged.",
        )
    )


def check_taps(taps: Sequence[str], outputs: dict[str, np.ndarray]) -> None:
    if missing := [path for path in taps if path not in outputs]:
        raise ConfigurationError(
            explain("The teacher does not return these layers.", received=missing, expected=f"any of {sorted(outputs)}")
        )


def _check_disk_space(store: Store, num_records: int) -> None:
    needed, free = num_records * store.manifest.record.itemsize, shutil.disk_usage(store.path).free
    if needed > free:
        raise ConfigurationError(
            explain(
                "The disk has too little free space for this teacher cache.",
                received=f"{human_bytes(free)} free in {store.path}",
                expected=f"{human_bytes(needed)}: {num_records:,} records of {store.manifest.record.itemsize:,} bytes",
                fix="Keep fewer classes (top_k=10), fewer views or no inner layers, or use another disk.",
            )
        )


def _print_cost(store: Store, num_done: int, num_assigned: int) -> None:
    """Prints what the build costs and when it pays off."""
    from rich.console import Console

    manifest, views = store.manifest, store.manifest.views
    s, es = ("s", "es") if views > 1 else ("", "")
    lines = [
        f"Teacher cache in {store.path}: {manifest.num_examples:,} examples x {views} view{s} x "
        f"{manifest.record.itemsize} bytes = {human_bytes(manifest.num_bytes)}.",
        f"Building it takes {views} pass{es} of the teacher over the data, as many as {views} epoch{s} with a live "
        "teacher. Every further epoch, seed or student then runs without the teacher.",
    ]
    if num_done:
        lines.append(f"{num_done} of {num_assigned} shards exist already.")
    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
