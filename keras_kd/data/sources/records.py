"""Examples as a source stores them (mostly uint8), in memory or on disk, and their conversion to model inputs.

Conversion happens only on reading, so a data set in memory takes a quarter of the space. Token ids stay integers;
everything else becomes float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_kd.data.sources.contents import check_finite
from keras_kd.errors import ConfigurationError, explain

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

    @property
    def names(self) -> np.ndarray | None:
        """A name for each example, text `[n]`, by which two sources are known to have the same examples, or None."""
        return None

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

    def __init__(
        self,
        load: Callable[[], np.ndarray],
        labels: np.ndarray,
        *,
        shape: tuple[int, ...],
        dtype: Any,
        names: np.ndarray | None = None,
    ):
        self._load = load
        self._names = names
        self._labels = np.asarray(labels)
        self.num_examples = len(self._labels)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def names(self) -> np.ndarray | None:
        return self._names

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
        load, names = lambda: self._load_rows(rows), None if self._names is None else self._names[rows]
        return ArrayRecords(load, self._labels[rows], shape=self.shape, dtype=self.dtype, names=names)

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
                    "The examples are too large to be reordered in memory.",
                    received=f"{self.num_examples} examples, {self.num_bytes / 2**30:.1f} GiB",
                    expected=f"at most {MEMORY_LIMIT_BYTES / 2**30:.1f} GiB, or indices in ascending order",
                    fix="Sort the indices with np.sort(indices).",
                )
            )

    @property
    def names(self) -> np.ndarray | None:
        return None if self._records.names is None else self._records.names[self._places]

    def read(self) -> np.ndarray:
        return self._records.read()[self._places]

    def read_labels(self) -> np.ndarray:
        return self._records.read_labels()[self._places]

    def stream(self) -> Any:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((self.stored, self.labels))

    def select(self, rows: np.ndarray) -> Records:
        return self._records.select(self._places[rows])
