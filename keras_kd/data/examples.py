"""Examples with ids: in every kind of source, each example has an id that is the same in every epoch and process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.data.sources import records
from keras_kd.data.sources.contents import check_finite
from keras_kd.data.splits import Split
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Classification, Task

_CHUNK = 256


class Examples(ABC):
    """A fixed sequence of examples, numbered from 0.

    Attributes:
        num_examples: the number of examples.
        parts: the number of parts per example: 1 `(x,)`, 2 `(x, y)`, 3 `(x, y, sample_weight)`.
        random_access: whether `fetch` works; otherwise examples are read in order by `stream`.
        task: the task that defines the labels, if known.
        names: a name for each example, text `[n]`, the same in every source of the same examples; None if there are
            none.
    """

    num_examples: int
    parts: int
    random_access = True
    task: Task | None = None
    names: np.ndarray | None = None

    @abstractmethod
    def fetch(self, ids: np.ndarray) -> tuple[Any, ...]:
        """The parts of the examples with these ids, each `[b, ...]` or a structure of such arrays."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the inputs in order, the same in every process; labels are excluded."""

    def stream(self) -> Iterator[tuple[np.ndarray, tuple[Any, ...]]]:
        """All examples in order, in chunks of `(int64 ids [b], parts)`."""
        for start in range(0, self.num_examples, _CHUNK):
            ids = np.arange(start, min(start + _CHUNK, self.num_examples))
            yield ids, self.fetch(ids)

    def labels(self) -> np.ndarray:
        """The second part of all examples, `[n, ...]`."""
        return np.concatenate([np.asarray(parts[1]) for _, parts in self.stream()])

    @property
    def num_bytes_each(self) -> int:
        """The memory size of one example in bytes."""
        return _num_bytes(self.fetch(np.arange(1)))


class ArrayExamples(Examples):
    """Examples in memory: arrays, or structures of arrays, with the same first axis."""

    def __init__(self, parts: tuple[Any, ...], task: Task | None = None, names: np.ndarray | None = None):
        self.task = task
        self.names = names
        self._parts = tuple(keras.tree.map_structure(np.asarray, part) for part in parts)
        sizes = {np.shape(leaf)[:1] for leaf in keras.tree.flatten(self._parts)}
        if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
            raise ConfigurationError(
                explain(
                    "The arrays do not have the same number of examples.",
                    received=_shapes(self._parts),
                    expected="the same number of examples, at least one, in the first axis of each",
                )
            )
        self.parts = len(parts)
        self.num_examples = sizes.pop()[0]
        self._fingerprint: str | None = None
        self._on_disk = any(isinstance(leaf, np.memmap) for leaf in keras.tree.flatten(parts))
        if not self._on_disk:
            check_parts(self._parts, task=task)

    def fetch(self, ids):
        parts = keras.tree.map_structure(lambda array: array[ids], self._parts)
        if self._on_disk:  # checked on reading, to avoid reading the file twice
            check_parts(parts, ids, self.task)
        return _with_labels_read(keras.tree.map_structure(_single_precision, parts), self.task)

    def labels(self):
        return _with_labels_read(self._parts, self.task)[1]

    @property
    def fingerprint(self):
        if self._fingerprint is None:
            self._fingerprint = _fingerprint_of(keras.tree.flatten(self._parts[0]))
        return self._fingerprint


class SplitExamples(Examples):
    """The examples of a split in memory, scaled on reading."""

    parts = 2

    def __init__(self, split: Split):
        self._split = split
        self.task = split.task
        self.names = split.records.names
        self.num_examples = split.num_examples
        self._fingerprint: str | None = None

    def fetch(self, ids):
        return self._split.scaling(self._split.records.stored[ids]), self._split.labels()[ids]

    def labels(self):
        return self._split.labels()

    @property
    def fingerprint(self):
        if self._fingerprint is None:
            scaling = np.array([self._split.scaling.divisor, self._split.scaling.offset])
            self._fingerprint = _fingerprint_of([scaling, self._split.records.stored])
        return self._fingerprint


class StreamedExamples(Examples):
    """Examples that do not fit into memory and are read in order on every pass.

    The fingerprint covers only their number and the first 256 examples; changes to later examples are not detected.

    Args:
        dataset: a `tf.data.Dataset` of `(id, parts)`.
        num_examples: the number of its elements.
    """

    random_access = False

    def __init__(self, dataset: Any, num_examples: int, task: Task | None = None):
        self.task = task
        self._dataset = records.without_autotune(dataset.batch(_CHUNK).prefetch(1))
        self.num_examples = num_examples
        self.parts = len(dataset.element_spec[1])
        self._fingerprint: str | None = None

    def fetch(self, ids):
        raise ConfigurationError(
            explain(
                "Mixing needs random access, but the data set can only be read in order.",
                received=f"{self.num_examples} examples of {self.num_bytes_each / 1024:.0f} KiB, more than "
                f"{records.MEMORY_LIMIT_BYTES / 2**30:.1f} GiB",
                expected="examples in memory",
                fix="Leave out mixup and cut_mix, or pass arrays (a numpy.memmap will do).",
            )
        )

    def stream(self):
        for ids, parts in self._dataset.as_numpy_iterator():
            check_parts(parts, ids, self.task)
            yield ids, _with_labels_read(parts, self.task)

    @property
    def num_bytes_each(self):
        ids, parts = next(self.stream())
        return _num_bytes(parts) // len(ids)

    @property
    def fingerprint(self):
        if self._fingerprint is None:
            firsts = [next(self.stream()) for _ in range(2)]
            hashes = {_fingerprint_of([ids, *keras.tree.flatten(parts[0])]) for ids, parts in firsts}
            if len(hashes) > 1:
                raise ConfigurationError(
                    explain(
                        "The order of the data set is not fixed.",
                        received="different first examples on the second read",
                        expected="the same order each time it is read",
                        fix="Remove shuffle(): the pipeline shuffles by seed and epoch. TFDS: shuffle_files=False, "
                        "or ReadConfig(add_tfds_id=True), by which examples are known in any order.",
                    )
                )
            self._fingerprint = files.fingerprint(files.digest(str(self.num_examples), hashes.pop()))
        return self._fingerprint


class StreamedSplitExamples(StreamedExamples):
    """The examples of a split that does not fit into memory; names and labels are known without reading the inputs."""

    def __init__(self, split: Split):
        scaled = split.stored_stream().map(lambda x, y: (split.scaling(x), y))
        super().__init__(scaled.enumerate(), split.num_examples, split.task)
        self._split = split
        self.names = split.records.names

    def labels(self):
        return self._split.labels()


def _shapes(parts: tuple[Any, ...]) -> str:
    """
    >>> _shapes(({"student": np.zeros((2, 3)), "teacher": np.zeros((4, 3))}, np.zeros(4)))
    "x['student'] (2, 3), x['teacher'] (4, 3), y (4,)"
    """
    named = []
    for name, part in zip(("x", "y", "sample_weight"), parts, strict=False):
        for path, leaf in keras.tree.flatten_with_path(part):
            named.append(f"{name}{''.join(f'[{key!r}]' for key in path)} {np.shape(leaf)}")
    return ", ".join(named)


def _check_objects(name: str, values: np.ndarray) -> None:
    """Raises `ConfigurationError` if an array of Python objects contains anything other than text."""
    kinds = {type(value).__name__ for value in values.ravel()[:_CHUNK]} if values.dtype == object else set()
    if not kinds <= {"str", "bytes", "str_"}:
        raise ConfigurationError(
            explain(
                f"{name} is an array of Python objects.",
                received=f"dtype object, of {', '.join(sorted(kinds))}",
                expected="numbers, or text",
                fix="Pad rows of different lengths to one length.",
            )
        )


def check_parts(parts: tuple[Any, ...], ids: np.ndarray | None = None, task: Task | None = None) -> None:
    """Raises `ConfigurationError` with the ids of the examples whose inputs, labels or weights are not finite.

    If the task is known, it reads the labels, because it defines how missing labels are marked.
    """
    for name, part in zip(("x", "y", "sample_weight"), parts, strict=False):
        if name == "y" and task is not None:
            task.read(part)
            continue
        for leaf in keras.tree.flatten(part):
            _check_objects(name, np.asarray(leaf))
            check_finite(name, np.asarray(leaf), ids)


def _with_labels_read(parts: tuple[Any, ...], task: Task | None) -> tuple[Any, ...]:
    """The parts with labels as a named task reads them; those of a classification may stay one-hot."""
    if len(parts) == 1 or task is None or isinstance(task, Classification):
        return parts
    return (parts[0], task.read(parts[1]), *parts[2:])


def _single_precision(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _num_bytes(structure: Any) -> int:
    return sum(np.asarray(leaf).nbytes for leaf in keras.tree.flatten(structure))


def _fingerprint_of(arrays: list[np.ndarray]) -> str:
    return files.fingerprint(files.digest_of_arrays(arrays))
