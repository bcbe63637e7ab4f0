"""Examples of a user's own `tf.data.Dataset`, with ids from their order or from the ids of TFDS."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_kd.data.examples import ArrayExamples, Examples, StreamedExamples
from keras_kd.data.sources import records
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Task

_CHUNK = 256
_ID = "tfds_id"


def examples_of_dataset(dataset: Any, task: Task | None = None) -> Examples:
    """Reads the data set once and keeps it in memory if it fits; otherwise, it is read again in each epoch.

    Example ids follow the order of the data set. If the examples have a `tfds_id`
    (`tfds.ReadConfig(add_tfds_id=True)`), ids follow that instead, regardless of the order.

    Args:
        dataset: single examples or batches: x, `(x,)`, `(x, y)`, `(x, y, sample_weight)`, or a mapping of image, label
            and `tfds_id`.
        task: the task that defines the labels, if known.
    """
    dataset = _unbatched(dataset)
    named, parts_of = _reader(dataset.element_spec)
    numbered = dataset.map(parts_of) if named else dataset.map(lambda *example: (b"", parts_of(*example)))
    kept, keys, count = _read(numbered)
    if not count:
        raise ConfigurationError(explain("The data set is empty.", received=repr(dataset), expected="examples"))
    ranks = _ranks(keys) if named else None
    if kept is None:
        return StreamedExamples(_with_numbers(numbered, ranks), count, task)
    arrays = keras.tree.map_structure(lambda *pieces: np.concatenate(pieces), *kept) if len(kept) > 1 else kept[0]
    if named:
        order = np.argsort(keys, kind="stable")
        arrays = keras.tree.map_structure(lambda array: array[order], arrays)
    names = np.char.decode(np.sort(keys).astype(bytes)) if named else None
    return ArrayExamples(tuple(arrays), task, names)


def _unbatched(dataset: Any) -> Any:
    """Unbatches a batched data set, recognized by a first axis of unknown length in every part."""
    specs = keras.tree.flatten(dataset.element_spec)
    is_batched = all(spec.shape.rank and spec.shape[0] is None for spec in specs) and len(specs) > 1
    return dataset.unbatch() if is_batched else dataset


def _reader(spec: Any) -> tuple[bool, Any]:
    """Whether examples have a `tfds_id`, and the function from an element to `(tfds_id, parts)` or to the parts."""
    if isinstance(spec, dict) and _ID in spec:
        keys = sorted(set(spec) - {_ID})
        labels = [key for key in keys if spec[key].dtype.is_integer and spec[key].shape.rank == 0]
        inputs = [key for key in keys if key not in labels]
        if len(inputs) != 1 or len(labels) > 1:
            raise ConfigurationError(
                explain(
                    "Cannot tell inputs from labels.",
                    received=f"the features {', '.join(keys)}",
                    expected=f"one numeric feature, at most one integer feature besides it, and {_ID}",
                    fix="Remove the others with dataset.map.",
                )
            )
        return True, lambda example: (example[_ID], tuple(example[key] for key in (*inputs, *labels)))
    if isinstance(spec, tuple):
        return False, lambda *parts: parts
    return False, lambda x: (x,)


def _read(numbered: Any) -> tuple[list[Any] | None, np.ndarray, int]:
    """Chunks of parts (None if they do not fit in memory), names, and the number of examples."""
    kept, keys, room = [], [], records.MEMORY_LIMIT_BYTES
    for names, parts in records.without_autotune(numbered.batch(_CHUNK)).as_numpy_iterator():
        keys.append(names)
        if kept is not None:
            room -= sum(leaf.nbytes for leaf in keras.tree.flatten(parts))
            kept = [*kept, parts] if room >= 0 else None
    return kept, np.concatenate(keys) if keys else np.array([]), sum(map(len, keys))


def _ranks(keys: np.ndarray) -> dict[bytes, int]:
    ranks = {key: rank for rank, key in enumerate(sorted(keys))}
    if len(ranks) < len(keys):
        raise ConfigurationError(
            explain(f"Several examples have the same {_ID}.", received=f"{len(keys)} examples, {len(ranks)} ids")
        )
    return ranks


def _with_numbers(numbered: Any, ranks: dict[bytes, int] | None) -> Any:
    import tensorflow as tf

    if ranks is None:
        return numbered.map(lambda _, parts: parts).enumerate().map(lambda number, *parts: (number, _tuple(parts)))
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(list(ranks), np.arange(len(ranks), dtype=np.int64)), default_value=-1
    )
    return numbered.map(lambda key, parts: (table.lookup(key), parts))


def _tuple(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Normalizes parts, because `enumerate` passes a tuple either as one argument or unpacked."""
    return parts[0] if len(parts) == 1 and isinstance(parts[0], tuple) else parts
