"""The three splits of a data source, each a fixed sequence of examples that can be read repeatedly.

The rest of the package uses `Split`, which reads its examples from `Records` and converts them to model inputs.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_kd.data.sources.contents import check_class_names
from keras_kd.data.sources.records import Records, Scaling, without_autotune
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Classification, Inputs, Task


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
                "Invalid indices.",
                received=reprlib.repr(indices.tolist() if isinstance(indices, np.ndarray) else indices),
                expected=f"at least one integer, each in 0..{num_examples - 1}",
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
