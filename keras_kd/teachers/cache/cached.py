"""A teacher that runs only once: its outputs are stored on disk for each example and view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_kd.data import Pipeline
from keras_kd.data.pairs.sides import check_is_no_pair
from keras_kd.errors import ConfigurationError, TeacherError, check_integer, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import nearest, register
from keras_kd.teachers.absent import AbsentTeacher, check_fingerprint
from keras_kd.teachers.array_runner import TeacherRunner
from keras_kd.teachers.base import OfflineTeacher, Teacher
from keras_kd.teachers.cache.building import (
    Builder,
    FirstOutputs,
    check_no_foreign_shards,
    check_taps,
    encoding_of,
    opened,
)
from keras_kd.teachers.cache.store import Manifest, Store
from keras_kd.teachers.frozen import FrozenTeacher, as_teacher

_SHARDS_A_VIEW = 256
_ROWS_A_SHARD = 1024
_BATCH_SIZE = 64


@register
class CachedTeacher(OfflineTeacher):
    """The stored outputs of a teacher, attached to the batches of the pipeline they were computed from.

        cached = kd.teachers.CachedTeacher.build(teacher, pipeline, "cache/", views=8)
        distiller = kd.Distiller(cached, student, alpha=0.9)
        distiller.fit(pipeline.with_teacher(cached), epochs=240)

    Epoch `e` uses view `e % views`: the same pixels that the teacher saw, with its outputs for them. The teacher itself
    is not in memory. The labels may differ, unless the teacher reads them. `build` creates or resumes a cache; `open`
    opens a complete one.

    Source: Z. Shen and E. Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", 2022; K. Wu et al.,
    "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022.
    """

    knows_one_set = True

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
        """Opens a complete cache and checks it.

        Args:
            path: the cache folder.
            teacher: if given, the cache must have been built from this teacher.
            verify: read every shard and compare its checksum; otherwise, only check that all shards exist.
            progress: show a progress bar.

        Raises:
            TeacherError: the cache does not exist or is incomplete, shards are damaged or belong to another cache, or
                the teacher differs.
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
        inputs: str | None = None,
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
        progress: bool | Callable[[int], None] = True,
    ) -> CachedTeacher | None:
        """Runs the teacher on each view of each example and stores the outputs.

        Existing shards are verified and kept: an interrupted build resumes, a larger `views` adds to the cache, and
        damaged shards are rebuilt. A killed build loses at most the shard in progress. Several processes or machines
        can build one cache, each with its own `shard`; to merge shards built in another folder, copy the files of its
        `shards/`.

        Args:
            teacher: a Keras model, the path of a `.keras` file, or any `keras_kd` teacher.
            pipeline: the inputs: source, augmentation and augmentation seed. Batch size and order do not matter.
            path: the cache folder.
            inputs: which of the pipeline's named inputs the teacher takes, such as `"teacher"`; None passes all.
            views: the number of augmented views per example; 1 if the pipeline does not augment.
            top_k: the number of classes to keep per output; None keeps whole rows.
            remainder: how to treat the mass of the other classes: `"uniform"`, `"renormalized"` or `"sampled"`, see
                `keras_kd.teachers.cache.encodings.TopK`.
            sampling_temperature: the temperature of `"sampled"`.
            taps: paths of inner layers to store as well, as whole rows.
            dtype: `"float16"` or `"float32"`, of whole rows and taps.
            shard, num_shards: this process builds every `num_shards`-th shard, starting at number `shard`.
            shard_size: rows per shard; None chooses (1024, more for large sources).
            batch_size: the teacher's batch size, in examples.
            progress: whether to print the cost and show a bar with rate and remaining time; or a function that receives
                the number of newly written records, starting with the number that already existed.

        Returns:
            The cache; None if shards assigned to other processes are still missing.

        Raises:
            TeacherError: the folder contains a cache of another teacher, other data, another augmentation or encoding;
                or the teacher's outputs cannot be stored.
            ConfigurationError: settings out of range, or not enough disk space.
        """
        teacher = as_teacher(teacher)
        _check_is_pipeline(pipeline)
        views = check_integer("views", views, at_least=1)
        if not pipeline.augment:
            views = 1  # all views would be identical
        num_shards = check_integer("num_shards", num_shards, at_least=1)
        shard = check_integer("shard", shard, at_least=0, at_most=num_shards - 1)
        runner = TeacherRunner(teacher, taps, inputs)
        settings = {
            "teacher": teacher.fingerprint,
            "pipeline": _identity(pipeline, inputs, with_labels=teacher.reads_labels),
            "views": views,
            "shard_size": shard_size or max(_ROWS_A_SHARD, -(-pipeline.num_examples // _SHARDS_A_VIEW)),
            "activations": dict(teacher.activations),
        }
        if inputs is None and isinstance(teacher, FrozenTeacher):
            check_is_no_pair(next(pipeline.in_order(1))[1][0], "CachedTeacher.build(..., inputs='teacher')")
        first = FirstOutputs.of_first(runner, pipeline, batch_size)
        check_taps(taps, first.outputs)
        encode = {
            name: encoding_of(name, value, taps, top_k, remainder, sampling_temperature, dtype)
            for name, value in first.outputs.items()
        }
        outputs = {name: encoding.get_config() for name, encoding in encode.items() if name not in taps}
        tapped = {name: encode[name].get_config() for name in taps}
        store = opened(path, Manifest(outputs=outputs, taps=tapped, **settings))
        Builder(store, runner, pipeline, encode, first, batch_size, progress).build(shard, num_shards)
        return cls.open(path, verify=False) if store.files().keys() >= set(store.keys()) else None

    # The interface used by distillers and pipelines.

    @property
    def views(self) -> int:
        return self._store.manifest.views

    def outputs_for(self, ids, view, x):
        records = self._store.lookup(ids, view)
        return {name: encoding.decode(records[name]) for name, encoding in self._encodings.items()}

    def decode(self, attached, taps):
        outputs = {name: attached[name] for name in self._store.manifest.outputs}
        return ModelOutputs(outputs, {path: attached[path] for path in taps})

    def check_pipeline(self, pipeline: Any) -> None:
        manifest = self._store.manifest
        inputs = pipeline.teacher_inputs or manifest.pipeline.get("inputs")
        identity = _identity(pipeline, inputs, with_labels="labels" in manifest.pipeline)
        here = Manifest(**{**vars(manifest), "pipeline": identity})
        if differences := manifest.differences(here):
            raise TeacherError(
                explain(
                    f"The teacher cache in {self.path} was built from other inputs than those of this pipeline.",
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
                        "The teacher cache does not contain this inner layer.",
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

    @property
    def only_of_classes(self) -> str | None:
        by_class = any("num_classes" in config for config in self._store.manifest.outputs.values())
        return "Build the cache without top_k." if by_class else None

    def describe(self) -> dict[str, Any]:
        """The contents of the cache as plain data: manifest, bytes and shards."""
        return self._store.describe()

    def get_config(self) -> dict[str, Any]:
        return {"path": str(self.path.resolve()), "fingerprint": self.fingerprint}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The cache if it still exists, else an `AbsentTeacher` that raises when called.

        Raises:
            TeacherError: the folder contains the cache of another teacher, or one that `open` rejects.
        """
        if not (Path(config["path"]) / "manifest.json").exists():
            return AbsentTeacher(config["path"], None, config["fingerprint"])
        cached = cls(config["path"])
        check_fingerprint(cached, config["fingerprint"])
        return cached


def _identity(pipeline: Pipeline, inputs: str | None, *, with_labels: bool) -> dict[str, Any]:
    """Everything that determines what the teacher was given."""
    return pipeline.identity(with_labels=with_labels) | ({} if inputs is None else {"inputs": inputs})


def _check_is_pipeline(pipeline: Any) -> None:
    if not isinstance(pipeline, Pipeline):
        raise ConfigurationError(
            explain(
                "A teacher cache must be built from a pipeline.",
                received=f"a {type(pipeline).__name__}",
                expected="a keras_kd.data.Pipeline, such as Pipeline((x, y), augment=..., batch_size=64)",
                fix="Train the student on the same pipeline: distiller.fit(pipeline.with_teacher(cached)).",
            )
        )


def _check_whole(store: Store, progress: bool) -> None:
    """Raises `TeacherError` if shards are missing or damaged."""
    _check_complete(store)
    if damaged := store.damaged(progress=progress):
        names = ", ".join(file.name for file in damaged[:3])
        raise TeacherError(
            explain(
                f"{len(damaged)} of {len(store.keys())} shards of the teacher cache in {store.path} are damaged.",
                received=f"contents that do not match their checksum: {names}{', ...' if len(damaged) > 3 else ''}",
                expected="unchanged files",
                fix="CachedTeacher.build with the same settings rebuilds only these shards.",
            )
        )


def _check_complete(store: Store) -> None:
    check_no_foreign_shards(store)
    missing = set(store.keys()) - set(store.files())
    if missing:
        raise TeacherError(
            explain(
                f"The teacher cache in {store.path} is incomplete.",
                received=f"{len(store.keys()) - len(missing)} of {len(store.keys())} shards",
                expected="all shards",
                fix="CachedTeacher.build with the same settings resumes the build.",
            )
        )


def _check_teacher(manifest: Manifest, teacher: Teacher) -> None:
    if manifest.teacher != teacher.fingerprint:
        raise TeacherError(
            explain(
                "The cache was built from another teacher.",
                received=f"a cache of the teacher {manifest.teacher}",
                expected=f"a cache of the teacher {teacher.fingerprint}",
            )
        )


def _advice(differences: list[str]) -> str:
    if any(line.startswith("pipeline.augment_seed") for line in differences):
        return "Pass the cache's augment_seed to the pipeline; `seed`, which sets the training order, may differ."
    return "Use the same pipeline settings as the cache, or build another cache."
