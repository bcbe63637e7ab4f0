"""The three splits of a data source, each a fixed sequence of examples that can be read repeatedly.

The rest of the package uses `Split`. It reads from `Records`: the examples as stored (mostly uint8), on disk or in
memory. They are converted to model inputs only on reading, so a data set in memory takes a quarter of the space. Token
ids stay integers; everything else becomes float32.
"""

from __future__ import annotations

import dataclasses
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_kd.data.sources.contents import check_class_names, check_finite
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Classification, Inputs, Task

MEMORY_LIMIT_BYTES = 2**30
"""A split whose stored examples take more than this is streamed from disk; a smaller one is read once and kept."""

_BATCH = 256


def without_autotune(dataset: Any) -> Any:
    """Switches off tf.data's autotuner, whose thread can outlive its use.

    With the autotuner, the end of an iteration (and thus of `fit`) may block until its next round, for as long as the
    iteration itself took, up to a minute (measured with TensorFlow 2.21).
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


@dataclass(frozen=True)
class Scaling:
    """Converts stored numbers to model inputs: `x / divisor + offset` in float32; token ids become int32, unscaled.

    >>> Scaling.to_range(255, (-1.0, 1.0))(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """

    divisor: float = 1.0
    offset: float = 0.0
    dtype: str = "float32"

    @classmethod
    def of_token_ids(cls) -> Scaling:
        """The scaling of token ids, which leaves integers unchanged."""
        return cls(dtype="int32")

    @classmethod
    def to_range(cls, stored_max: float, value_range: tuple[float, float]) -> Scaling:
        """Maps 0..stored_max to `value_range`."""
        low, high = value_range
        return cls(divisor=stored_max / (high - low), offset=low)

    def __call__(self, stored: Any) -> Any:
        """Scales a NumPy array, or a tensor inside a `tf.data` pipeline, of any shape."""
        if self.dtype != "float32":
            return self._cast(stored)
        if isinstance(stored, np.ndarray):
            return stored.astype(np.float32) / np.float32(self.divisor) + np.float32(self.offset)
        import tensorflow as tf

        return tf.cast(stored, tf.float32) / self.divisor + self.offset

    def _cast(self, stored: Any) -> Any:
        if isinstance(stored, np.ndarray):
            return stored.astype(self.dtype)
        import tensorflow as tf

        return tf.cast(stored, self.dtype)


class Records(ABC):
    """A fixed sequence of examples as stored.

    Attributes:
        num_examples: the number of examples.
        shape: the shape of one example, `(height, width, channels)` for images.
        dtype: the stored dtype.
    """

    num_examples: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def stream(self) -> Any:
        """A `tf.data.Dataset` of single `(stored x, label)` pairs, always in the same order."""

    @abstractmethod
    def read_labels(self) -> np.ndarray:
        """The labels `[n, ...]`, without decoding images."""

    @abstractmethod
    def select(self, rows: np.ndarray) -> Records:
        """The records at `rows`, int64 `[m]`, in that order; repeated rows repeat the record."""

    def read(self) -> np.ndarray:
        """All stored examples, `[n, *shape]`."""
        stored = np.empty((self.num_examples, *self.shape), self.dtype)
        start = 0
        for x, _ in without_autotune(self.stream().batch(_BATCH)).as_numpy_iterator():
            stored[start : start + len(x)] = x
            start += len(x)
        return stored

    @property
    def num_bytes(self) -> int:
        return self.num_examples * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def fits_in_memory(self) -> bool:
        return self.num_bytes <= MEMORY_LIMIT_BYTES

    @cached_property
    def stored(self) -> np.ndarray:
        """All stored examples, read on first use and cached.

        Raises:
            ConfigurationError: numbers that are not finite.
        """
        stored = self.read()
        check_finite("The stored examples", stored)
        return stored

    @cached_property
    def labels(self) -> np.ndarray:
        """The labels, read on first use and cached."""
        return self.read_labels()


class ArrayRecords(Records):
    """Records in memory; `load` reads the pixels on first use."""

    def __init__(self, load: Callable[[], np.ndarray], labels: np.ndarray, *, shape: tuple[int, ...], dtype: Any):
        self._load = load
        self._labels = np.asarray(labels)
        self.num_examples = len(self._labels)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def fits_in_memory(self) -> bool:
        return True

    def read(self) -> np.ndarray:
        return self._load()

    def read_labels(self) -> np.ndarray:
        return self._labels

    def stream(self) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((self.stored, self.labels))

    def select(self, rows: np.ndarray) -> ArrayRecords:
        return ArrayRecords(lambda: self._load_rows(rows), self._labels[rows], shape=self.shape, dtype=self.dtype)

    def _load_rows(self, rows: np.ndarray) -> np.ndarray:
        """Keeps only the selected rows in memory, not the whole file."""
        whole = self.__dict__.get("stored")
        return (self._load() if whole is None else whole)[rows]


class ReorderedRecords(Records):
    """Reorders the records of a source that can only be read in order, by keeping them in memory.

    Args:
        records: the records, read once.
        places: for each reordered record, its row in `records`, int64 `[n]`, in any order.

    Raises:
        ConfigurationError: the records take more than `MEMORY_LIMIT_BYTES`.
    """

    def __init__(self, records: Records, places: np.ndarray):
        self._records, self._places = records, places
        self.num_examples, self.shape, self.dtype = len(places), records.shape, records.dtype
        if not self.fits_in_memory:
            raise ConfigurationError(
                explain(
                    "Examples that are read in the order of the disk are too large to be put in another.",
                    received=f"{self.num_examples} examples, {self.num_bytes / 2**30:.1f} GiB",
                    expected=f"at most {MEMORY_LIMIT_BYTES / 2**30:.1f} GiB, or indices in ascending order",
                    fix="Sort the indices with np.sort(indices).",
                )
            )

    def read(self) -> np.ndarray:
        return self._records.read()[self._places]

    def read_labels(self) -> np.ndarray:
        return self._records.read_labels()[self._places]

    def stream(self) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((self.stored, self.labels))

    def select(self, rows: np.ndarray) -> Records:
        return self._records.select(self._places[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: a fixed sequence of examples with labels in the form returned by `task.read`.

    Attributes:
        name: `"train"`, `"validation"`, `"test"`, or the name given to `subset`.
        records: the examples as stored.
        scaling: the conversion to model inputs.
        given_labels: labels `[n, ...]` that replace the stored ones, or None.
        task: the task that defines the labels.
    """

    name: str
    records: Records
    scaling: Scaling = Scaling()
    given_labels: np.ndarray | None = None
    task: Task = Classification()

    @property
    def num_examples(self) -> int:
        return self.records.num_examples

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.records.shape

    def labels(self) -> np.ndarray:
        """The labels, `[n, ...]`: for a classification int64 `[n]`, -1 for unlabeled examples."""
        return self.records.labels if self.given_labels is None else self.given_labels

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The whole split in memory: inputs `[n, *example_shape]`, float32 or token ids in int32; labels `[n, ...]`."""
        return self.scaling(self.records.stored), self.labels()

    def dataset(self) -> Any:
        """A `tf.data.Dataset` of single examples, in the form of `arrays`, always in the same order."""
        import tensorflow as tf

        stream = self.stored_stream().map(lambda x, y: (self.scaling(x), y), tf.data.AUTOTUNE)
        return without_autotune(stream.apply(tf.data.experimental.assert_cardinality(self.num_examples)))

    def stored_stream(self) -> Any:
        """Like `dataset`, with x as stored (not scaled)."""
        import tensorflow as tf

        stream = self.records.stream()
        if self.given_labels is None:
            return stream
        labels = tf.data.Dataset.from_tensor_slices(self.given_labels)
        return tf.data.Dataset.zip(stream, labels).map(lambda pair, label: (pair[0], label))

    def subset(self, indices: Any, name: str) -> Split:
        """The examples at `indices`, integers `[m]`, in that order; repeated indices repeat the example.

        Raises:
            ConfigurationError: no indices, an index out of range, or a mask; for a TensorFlow data set that is too
                large for memory, indices that are not ascending.
        """
        rows = _check_rows(indices, self.num_examples)
        labels = None if self.given_labels is None else self.given_labels[rows]
        return Split(name, self.records.select(rows), self.scaling, labels, self.task)

    def relabeled(self, labels: np.ndarray, name: str) -> Split:
        """The same examples (not read again) with other labels `[n, ...]` of the same task.

        Raises:
            ConfigurationError: another shape, or labels that are invalid for the task.
        """
        shape = (self.num_examples, *self.labels().shape[1:])
        labels = np.asarray(labels)
        if labels.shape != shape:
            raise ConfigurationError(
                explain(
                    f"The labels do not fit the split {self.name!r}.",
                    received=f"shape {labels.shape} of {labels.dtype}",
                    expected=f"shape {shape}",
                )
            )
        labels = self.task.read(labels, what=f"The labels of {name!r}")
        return dataclasses.replace(self, name=name, given_labels=labels)


@dataclass(frozen=True, eq=False)
class Opened:
    """What each kind of source returns to `open_source`: its classes, its splits, and the identity of its data.

    `found` is the reason for the inferred task, None if the task was given.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    identity: tuple[Any, ...]
    found: str | None = None

    def __post_init__(self):
        check_class_names(self.class_names)


@dataclass(frozen=True, eq=False)
class DataSource:
    """A data set ready for use: its name, its classes, and its three splits.

    Attributes:
        name: the name passed to `open_source`.
        class_names: the class of each label, `class_names[label]`; for a regression, the names of its targets.
        input_shape: the shape of one example, without the batch axis.
        fingerprint: changes when the data, the splits, the task or the scaling change; equal for equal data.
        found: the reason for the inferred task, such as `"masks of class numbers"`; None if the task was given.
    """

    name: str
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str
    found: str | None = None

    @property
    def num_classes(self) -> int:
        """The size of a model's last axis: the number of classes, labels, or regression targets."""
        return len(self.class_names)

    @property
    def task(self) -> Task:
        """The task that defines the labels."""
        return self.train.task

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one example's labels: `()` for a class, `(height, width)` for a mask."""
        return self.train.labels().shape[1:]

    @property
    def unit(self) -> str:
        """The plural noun for the examples: `"images"`, `"sentences"` or `"examples"`."""
        records = self.train.records
        return self.task.words(Inputs((records.num_examples, *records.shape), np.dtype(records.dtype)))

    @cached_property
    def vocabulary_size(self) -> int | None:
        """The largest token id of all splits, plus one; None if the inputs are not token ids."""
        if self.train.scaling.dtype == "float32":
            return None
        return 1 + max(int(split.records.stored.max()) for split in (self.train, self.validation, self.test))


def _check_rows(indices: Any, num_examples: int) -> np.ndarray:
    rows = _whole_numbers(indices)
    if rows is None or rows.min() < 0 or rows.max() >= num_examples:
        raise ConfigurationError(
            explain(
                "These indices do not choose a subset.",
                received=reprlib.repr(indices.tolist() if isinstance(indices, np.ndarray) else indices),
                expected=f"at least one, whole numbers in 0..{num_examples - 1}",
                fix="For a mask, pass np.flatnonzero(mask).",
            )
        )
    return rows.astype(np.int64)


def _whole_numbers(indices: Any) -> np.ndarray | None:
    """The indices as an integer array `[m]`; None if they are anything else."""
    try:
        rows = np.asarray(indices)
    except ValueError:  # rows of different lengths
        return None
    return rows if rows.ndim == 1 and rows.size and np.issubdtype(rows.dtype, np.integer) else None
