"""Batches for `model.fit` from examples with ids, in a reproducible order and with reproducible augmentation."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.data import augmentation
from keras_kd.data.augmentation import Augmentation
from keras_kd.data.augmenter import Augmenter
from keras_kd.data.checks import check_seed
from keras_kd.data.curriculum.arrangement import Arrangement
from keras_kd.data.curriculum.curriculum import Curriculum, check_curriculum
from keras_kd.data.pairs.selection import Selection
from keras_kd.data.pairs.sides import select
from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.data.sources import records
from keras_kd.data.sources.numbered import examples_of
from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.keras_private import DataAdapter, running_method

_PREFETCH = 4


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the examples in `epoch` of training: a permutation, int64 `[n]`.

    >>> epoch_order(5, seed=0, epoch=3).tolist() == epoch_order(5, seed=0, epoch=3).tolist()
    True
    """
    return np.random.RandomState([seed, epoch]).permutation(num_examples).astype(np.int64)


class Pipeline(DataAdapter):
    """Batches for `model.fit` of a plain student, or of a `Distiller` with attached teacher outputs.

        pipeline = kd.data.Pipeline((x, y), augment=[PadAndCrop(4), Flip()], batch_size=64)
        student.fit(pipeline, epochs=20)

    Each example has an id. Epoch `e` contains each example once, in an order that depends only on `(seed, e)`, in its
    view `e`: an augmentation that depends only on `(augment_seed, id, view)`. Any batch of any epoch can therefore be
    reproduced bit for bit in another process. Each `fit` starts at epoch 0; to resume after epoch n, use
    `pipeline.from_epoch(n)` together with `initial_epoch=n`. `keras_kd.callbacks.Resume` does both automatically.

    The pipeline shuffles regardless of `fit(shuffle=...)`. Keras does not apply `fit(class_weight=...)` to this kind of
    data set: provide class weights as sample weights in the source.

    Examples in memory are permuted as a whole. Sources larger than `MEMORY_LIMIT_BYTES` are read in order and permuted
    within blocks of a quarter of that size.

    If x is a dict of arrays, such as `{"teacher": ..., "student": ...}`, every augmentation changes all of them with
    the same draws, whatever their resolutions; `Only` limits it to some of them.

    Args:
        source: arrays `(x,)`, `(x, y)`, `(x, y, sample_weight)`; a `Split` or `DataSource`; two sources joined by
            `kd.data.pair`; or a `tf.data.Dataset` of examples in a fixed order.
        augment: one augmentation or several in order: objects, names or mappings (`keras_kd.data.augmentation`).
        batch_size: examples per batch; the last batch of an epoch may be smaller.
        shuffle: whether the order changes with the epoch; otherwise the order of the source is kept.
        seed: the seed of the order, 0..2**32 - 1.
        augment_seed: the seed of the augmentation; None uses `seed`. Set it if runs with several seeds share one cache.
        views: the number of views: epoch `e` uses view `e % views`. None uses a new view each epoch.
        num_classes: the size of mixed labels; None infers it from the labels, as the largest class id + 1.
        task: one of `keras_kd.tasks` or its name; it determines how labels are mixed, and whether they move with the
            positions of the inputs. None takes the task of a `Split`, and infers it for arrays if an augmentation needs
            it. With a task, labels are checked and may be missing in the way it marks them (NaN for a regression).
        curriculum: one of `keras_kd.curricula`, for training on easy examples first; see `Curriculum`. If it needs the
            teacher of the training, `Distiller.fit` and `with_teacher` provide it.

    Raises:
        ConfigurationError: settings out of range, a source without examples, or an unsupported augmentation; NaN or
            infinity in inputs, labels or weights (raised on reading if the source is read from disk); if classes are
            mixed, labels that are not valid classes; a curriculum for a source that is read in order. With a
            curriculum, also in `evaluate` and `predict`, and in a `fit` whose epochs are not those of the pipeline.
    """

    def __init__(
        self,
        source: Any,
        *,
        augment: Any = None,
        batch_size: int = 64,
        shuffle: bool = True,
        seed: int = 0,
        augment_seed: int | None = None,
        views: int | None = None,
        num_classes: int | None = None,
        task: Any = None,
        curriculum: Curriculum | None = None,
    ):
        self.examples = examples_of(source, task)
        self._batch_size = check_integer("batch_size", batch_size, at_least=1)
        self.shuffle = bool(shuffle)
        self.seed = check_seed(seed)
        self.augment_seed = self.seed if augment_seed is None else check_seed(augment_seed)
        self.views = None if views is None else check_integer("views", views, at_least=1)
        self.teacher: Any = None
        self.teacher_inputs: str | None = None
        self.only_side: str | None = None
        self._has_ids = False
        num_classes = None if num_classes is None else check_integer("num_classes", num_classes, at_least=1)
        self._augmenter = Augmenter(self.examples, augment, self.augment_seed, num_classes)
        self._first_epoch = 0
        self._clock = _Clock(0)
        self.curriculum = check_curriculum(curriculum, shuffle=self.shuffle)
        self._arrangement: Arrangement | None = None if curriculum is None else curriculum.arrange(self)

    # Derived pipelines.

    def with_teacher(self, teacher: Any, *, inputs: str | None = None) -> Pipeline:
        """The same batches with attached teacher outputs, for `Distiller.fit`.

        Returns this pipeline unchanged if the teacher runs inside the training step; a curriculum that has no teacher
        yet takes this one.

        Args:
            teacher: one of `keras_kd.teachers`.
            inputs: which of the named inputs this teacher takes; None passes all. A cache knows its own.

        Raises:
            ConfigurationError: `teacher` is not one of `keras_kd.teachers`.
            TeacherError: the outputs belong to other data, another order or another augmentation.
        """
        if not hasattr(teacher, "runs_outside_step"):
            raise ConfigurationError(
                explain(
                    "Unsupported teacher.",
                    received=type(teacher).__name__,
                    expected="a teacher of keras_kd.teachers, such as CachedTeacher",
                    fix="A Keras model runs inside the training step: pass it to Distiller, and this pipeline to fit.",
                )
            )
        if not teacher.runs_outside_step:
            return self.arranged_by(teacher, inputs)
        other = self._copy()
        other.teacher, other.teacher_inputs = teacher, inputs
        teacher.check_pipeline(other)
        other = other.arranged_by(teacher, inputs)
        other.views = teacher.views if teacher.views is not None else self.views
        return other

    def side(self, name: str) -> Pipeline:
        """The same order and the same views, of one of the named inputs alone: for a training without the other side.

        Raises:
            ConfigurationError: no input has this name.
        """
        other = self._copy()
        other.only_side, other._augmenter = name, self._augmenter.of_side(name)
        other._one_example()
        return other

    def with_ids(self) -> Pipeline:
        """The same batches with example ids and view attached to the inputs (`PipelineInputs`), for `Distiller.fit`."""
        other = self._copy()
        other._has_ids = True
        return other

    def from_epoch(self, epoch: int) -> Pipeline:
        """The same batches, starting at `epoch`, for a `fit` with `initial_epoch=epoch`."""
        other = self._copy()
        other._first_epoch = check_integer("epoch", epoch, at_least=0)
        other._clock = _Clock(other._first_epoch)
        return other

    def arranged_by(self, teacher: Any, inputs: Selection = None) -> Pipeline:
        """This pipeline; if its curriculum has no teacher yet, a copy that is arranged by this one.

        Args:
            teacher: one of `keras_kd.teachers`.
            inputs: what the teacher takes of the `x` of a batch: a key of it, or a function; None passes `x`.
        """
        if self.curriculum is None or self._arrangement is not None:
            return self
        other = self._copy()
        other._arrangement = self.curriculum.arrange(self, teacher, inputs)
        return other

    def _copy(self) -> Pipeline:
        other = copy.copy(self)
        other._clock = _Clock(self._first_epoch)
        return other

    def go_to(self, epoch: int) -> None:
        """Moves a `fit` that has just started to `epoch`; `from_epoch` does this for the next `fit`."""
        self._clock.epoch = check_integer("epoch", epoch, at_least=0)

    # Properties.

    @property
    def first_epoch(self) -> int:
        """The epoch at which each `fit` starts; see `from_epoch`."""
        return self._first_epoch

    @property
    def augment(self) -> tuple[Augmentation, ...]:
        """The augmentations, in order."""
        return self._augmenter.steps

    @property
    def num_examples(self) -> int:
        return self.examples.num_examples

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_examples / self._batch_size)

    def view_of(self, epoch: int) -> int:
        """The view that training uses in `epoch`; 0 without augmentation."""
        if not self.augment:
            return 0
        return epoch if self.views is None else epoch % self.views

    def identity(self, *, with_labels: bool = False) -> dict[str, Any]:
        """Everything that determines the inputs, as plain data: source, its order, augmentation and its seed."""
        settings = {"augment": augmentation.describe(self.augment)}
        if self.augment:
            settings["augment_seed"] = self.augment_seed
        if self.only_side is not None:
            settings["side"] = self.only_side
        if with_labels:
            settings["labels"] = files.digest_of_arrays([self.examples.labels()])
        return {"data": self.examples.fingerprint, "num_examples": self.num_examples, **settings}

    def curriculum_identity(self) -> dict[str, Any] | None:
        """What determines the curriculum's batches, as plain data; without its teacher, its settings alone."""
        if self.curriculum is None:
            return None
        return self.curriculum.identity() if self._arrangement is None else self._arrangement.identity()

    # Batches.

    def batch(self, ids: Any, view: int = 0) -> tuple[Any, ...]:
        """The examples with these ids in a view: `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each `[b, ...]`."""
        ids = np.asarray(ids, np.int64)
        return self._augmenter(ids, view, self.examples.fetch(ids))

    def in_order(self, batch_size: int | None = None, view: int = 0) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        """One pass over all examples in the order of the source, as batches of `(ids, parts)`."""
        for ids, parts in self._rebatched(self.examples.stream(), batch_size or self._batch_size):
            yield ids, self._augmenter(ids, view, parts)

    def epoch(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """The batches of one epoch, as passed to `fit`."""
        view = self.view_of(epoch)
        chunks = self._ordered(epoch) if self.examples.random_access else self._streamed(epoch)
        for ids, parts in chunks:
            yield self._with_extras(ids, view, self._augmenter(ids, view, parts))

    def _ordered(self, epoch: int) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        size = self.num_examples
        order = epoch_order(size, self.seed, epoch) if self.shuffle else np.arange(size)
        arrangement = self._arrangement_now()
        for number, start in enumerate(range(0, size, self._batch_size)):
            ids = order[start : start + self._batch_size]
            if arrangement is not None:
                position = {"seed": self.seed, "epoch": epoch, "number": number, "num_batches": self.steps_per_epoch}
                ids = arrangement.batch(ids, **position)
            yield ids, self.examples.fetch(ids)

    def _arrangement_now(self) -> Arrangement | None:
        """The arrangement of the curriculum; raises `ConfigurationError` if its teacher is not known."""
        if self.curriculum is not None and self._arrangement is None:
            raise ConfigurationError(
                explain(
                    f"{type(self.curriculum).__name__} has no teacher.",
                    received="a pipeline for a training without a teacher",
                    expected="a teacher that finds the difficulty of each example",
                    fix="Pass the teacher to the curriculum, or use pipeline.with_teacher(teacher).",
                )
            )
        return self._arrangement

    def _streamed(self, epoch: int) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        chunks = self.examples.stream()
        if self.shuffle:
            block = max(self._batch_size, records.MEMORY_LIMIT_BYTES // 4 // self.examples.num_bytes_each)
            chunks = self._shuffled(self._rebatched(chunks, block), epoch)
        return self._rebatched(chunks, self._batch_size)

    def _shuffled(self, blocks: Iterable[Any], epoch: int) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        for number, (ids, parts) in enumerate(blocks):
            order = np.random.RandomState([self.seed, epoch, number]).permutation(len(ids))
            yield ids[order], _rows(parts, order)

    @staticmethod
    def _rebatched(chunks: Iterable[Any], size: int) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        """The same rows in chunks of `size`."""
        waiting: list[Any] = []
        count = 0
        for chunk in chunks:
            waiting.append(chunk)
            count += len(chunk[0])
            while count >= size:
                joined = _joined(waiting)
                yield _rows(joined, slice(0, size))
                rest = _rows(joined, slice(size, None))
                waiting, count = ([rest], len(rest[0])) if len(rest[0]) else ([], 0)
        if count:
            yield _joined(waiting)

    def _with_extras(self, ids: np.ndarray, view: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.teacher is None and not self._has_ids:
            return parts
        x = parts[0] if self.teacher_inputs is None else select(parts[0], self.teacher_inputs)
        outputs = {} if self.teacher is None else self.teacher.outputs_for(ids, view, x)
        return (PipelineInputs(parts[0], ids, np.full(len(ids), view), outputs), *parts[1:])

    # The data adapter interface of Keras.

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def num_batches(self) -> int:
        """Equals `steps_per_epoch`; Keras reads it when a `fit` starts, which resets the epoch counter."""
        if self._arrangement_now() is not None:
            _check_is_training()
        self._clock.restart_is_near()
        return self.steps_per_epoch

    @property
    def has_partial_batch(self) -> bool:
        return self.num_examples % self._batch_size != 0

    @property
    def partial_batch_size(self) -> int:
        return self.num_examples % self._batch_size

    def on_epoch_begin(self) -> None:
        if self.curriculum is not None:
            self._clock.check_whole_epochs(self.steps_per_epoch)
        self._clock.begin()

    def on_epoch_end(self) -> None:
        self._clock.end()

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.epoch(self._clock.epoch):
            self._clock.num_batches += 1
            yield batch

    def get_jax_iterator(self) -> Iterator[tuple[Any, ...]]:
        return self.get_numpy_iterator()

    def get_tf_dataset(self) -> Any:
        import tensorflow as tf

        signature = keras.tree.map_structure(
            lambda array: tf.TensorSpec((None, *np.shape(array)[1:]), np.asarray(array).dtype), self._one_example()
        )
        data = tf.data.Dataset.from_generator(self.get_numpy_iterator, output_signature=signature)
        data = data.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
        return records.without_autotune(data.prefetch(_PREFETCH))

    def _one_example(self) -> tuple[Any, ...]:
        ids, parts = next(self._rebatched(self.examples.stream(), 1))
        view = self.view_of(self._first_epoch)
        return self._with_extras(ids, view, self._augmenter(ids, view, parts))


class _Clock:
    """Counts the epochs of a `fit` from the data adapter callbacks of Keras.

    Keras signals the beginning and end of an epoch, but not its number. Before the first epoch, it may begin one only
    to inspect a batch; it then reads the number of batches again and signals an end, which must not be counted.
    """

    def __init__(self, first: int):
        self._first = first
        self._restarts = self._running = False
        self.epoch = first
        self.num_batches = 0  # read since the epoch began
        self._last_size: int | None = None

    def restart_is_near(self) -> None:
        self._restarts = True
        self._last_size = None

    def begin(self) -> None:
        self._restarts, self._running = False, True
        self.num_batches = 0

    def end(self) -> None:
        if self._restarts:
            self.epoch = self._first
        elif self._running:
            self.epoch += 1
            self._last_size = self.num_batches
        self._restarts = self._running = False

    def check_whole_epochs(self, num_batches: int) -> None:
        """Raises `ConfigurationError` if the last epoch of this `fit` had fewer batches than one of the pipeline."""
        if self._last_size is not None and self._last_size < num_batches:
            raise ConfigurationError(
                explain(
                    "A curriculum counts whole epochs of its pipeline.",
                    received=f"an epoch of fewer than {num_batches} batches, from fit(steps_per_epoch=...)",
                    fix="Leave out steps_per_epoch, and give `full_after` in batches.",
                )
            )


def _check_is_training() -> None:
    """Raises `ConfigurationError` if `evaluate` or `predict` is about to read the batches."""
    method = running_method()
    if method in ("evaluate", "predict"):
        raise ConfigurationError(
            explain(
                "The batches of a curriculum are for training: early ones repeat some examples and leave out others.",
                received=f"{method}(pipeline), or such a pipeline as validation_data",
                expected="a pipeline without a curriculum, or arrays",
            )
        )


def _rows(structure: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda array: array[rows], structure)


def _joined(chunks: list[Any]) -> Any:
    return chunks[0] if len(chunks) == 1 else keras.tree.map_structure(lambda *pieces: np.concatenate(pieces), *chunks)
