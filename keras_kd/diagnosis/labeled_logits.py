"""Reads a teacher's logits and the labels of a data set batch by batch, outside training."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from keras_kd.errors import ConfigurationError, explain
from keras_kd.progress import bar
from keras_kd.tasks.labels import class_numbers
from keras_kd.teachers.array_runner import TeacherRunner
from keras_kd.teachers.base import Batch, Teacher

_QUIET_SECONDS = 2.0  # no progress bar for shorter runs


class LabeledLogits(NamedTuple):
    """The logits and labels of one batch; a binary output has two columns, `(0, logit)`.

    Attributes:
        logits: `[n, C]`, one row per example, or per position of outputs such as `[batch, time, C]`.
        labels: int64 `[n]`, -1 for unlabeled rows.
    """

    logits: np.ndarray
    labels: np.ndarray


class LogitsReader:
    """Runs a teacher in batches; its forward pass is compiled once for any number of data sets.

    Args:
        teacher: any teacher. One that runs outside the training step receives row numbers as example ids, unless the
            batches already contain its outputs.
        output: the output to read, if there are several.
    """

    def __init__(self, teacher: Teacher, output: str | None = None):
        self.teacher = teacher
        self.output = output
        self._run = TeacherRunner(teacher)

    def read(self, data: Any, *, batch_size: int, progress: bool, description: str) -> Iterator[LabeledLogits]:
        """Yields the logits and labels of arrays `(x, y)` or of batches, in order.

        Raises:
            ConfigurationError: no labels, labels that do not fit the outputs, or an unknown output.
        """
        first = 0
        batches, total = _batches(data, batch_size)
        with bar(description, total, unit="batches", shown=progress, after_seconds=_QUIET_SECONDS) as advance:
            for batch in batches:
                if batch.y is None:
                    raise ConfigurationError(
                        explain(
                            "The data have no labels.",
                            received=f"a batch of {type(batch.x).__name__} alone",
                            expected="arrays (x, y) as a tuple, or batches of (x, y)",
                        )
                    )
                name, logits = _pick(self._logits_of(batch, first), self.output)
                first += _num_rows(batch.x)
                yield _paired(logits, batch, name, self.teacher.activations.get(name))
                advance()

    def _logits_of(self, batch: Batch, first: int) -> dict[str, np.ndarray]:
        """The logits of a batch by output name; `first` is the row number of its first row in the data."""
        if batch.teacher_outputs is not None:
            return {name: ops.convert_to_numpy(value) for name, value in self.teacher(batch).outputs.items()}
        ids = np.arange(first, first + _num_rows(batch.x), dtype=np.int64)
        return self._run(ids, 0, batch.x, batch.y)


def _batches(data: Any, batch_size: int) -> tuple[Iterator[Batch], int | None]:
    """Batches of NumPy arrays, and their number if known."""
    if isinstance(data, tuple):
        num_rows = _num_rows(data[0])
        starts = range(0, num_rows, batch_size)
        return (_as_arrays(_sliced(data, start, start + batch_size)) for start in starts), len(starts)
    if not isinstance(data, Iterable):
        received, expected = f"a {type(data).__name__}", "arrays (x, y) as a tuple, or an iterable of batches of (x, y)"
        raise ConfigurationError(explain("Unsupported data type.", received=received, expected=expected))
    _check_finite(data)
    return map(_as_arrays, data), operator.length_hint(data) or None


def _sliced(data: tuple, start: int, stop: int) -> tuple:
    return tuple(part if part is None else tree.map_structure(lambda a: a[start:stop], part) for part in data)


def _as_arrays(data: Any) -> Batch:
    batch = Batch.of(data)
    x, y, sample_weight = (
        part if part is None else tree.map_structure(ops.convert_to_numpy, part) for part in batch[:3]
    )
    return Batch(x, y, sample_weight, batch.teacher_outputs)


def _check_finite(data: Any) -> None:
    """Raises `ConfigurationError` for an infinite dataset, whose `len` raises an error that says so."""
    try:
        len(data)
    except TypeError as error:
        if "infinite" in str(error):
            problem, fix = (
                "The dataset is infinite.",
                "Pass the dataset as it is before `.repeat()`, or after `.take(n)`.",
            )
            raise ConfigurationError(explain(problem, received="an infinite dataset", fix=fix)) from error


def _num_rows(x: Any) -> int:
    return len(tree.flatten(x)[0])


def _pick(logits: dict[str, Any], output: str | None) -> tuple[str, Any]:
    name = next(iter(logits)) if output is None and len(logits) == 1 else output
    if name not in logits:
        problem = "The teacher has several outputs." if output is None else "Unknown output."
        expected = "output= one of " + ", ".join(map(repr, logits))
        raise ConfigurationError(explain(problem, received=f"output={output!r}", expected=expected))
    return name, logits[name]


def _paired(logits: np.ndarray, batch: Batch, name: str, activation: str | None) -> LabeledLogits:
    logits = logits[:, None] if logits.ndim == 1 else logits
    positions, num_classes = logits.shape[:-1], max(logits.shape[-1], 2)
    if activation == "sigmoid" and logits.shape[-1] > 1:
        received = f"the output {name!r} of {logits.shape[-1]} sigmoids"
        expected = "a softmax, logits, or a single sigmoid"
        raise ConfigurationError(
            explain("Only exclusive classes can be diagnosed.", received=received, expected=expected)
        )
    labels = class_numbers(_labels_of(batch.y, name), positions, num_classes, what="y")
    if batch.sample_weight is not None:
        labels = np.where(_spread(batch.sample_weight, labels.shape) == 0, -1, labels)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return LabeledLogits(logits.reshape(-1, num_classes), labels.reshape(-1))


def _labels_of(y: Any, name: str) -> np.ndarray:
    if isinstance(y, Mapping) and name in y:
        return y[name]
    if isinstance(y, (Mapping, list, tuple)):
        received = f"labels of {list(y)}" if isinstance(y, Mapping) else f"{len(y)} arrays of labels"
        expected = f"one array, or a mapping by output name with the key {name!r}"
        raise ConfigurationError(
            explain("Cannot tell which labels belong to the output.", received=received, expected=expected)
        )
    return y


def _spread(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcasts weights per row to all positions of the row."""
    weights = np.asarray(sample_weight)
    if weights.size != np.prod(shape):
        weights = weights.reshape(shape[0], *[1] * (len(shape) - 1))
        return np.broadcast_to(weights, shape)
    return weights.reshape(shape)
