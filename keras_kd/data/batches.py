"""Batches for evaluation: one pass over a split, in order."""

from __future__ import annotations

import math
from typing import Any

from keras_kd.data.sources.records import without_autotune
from keras_kd.data.splits import Split
from keras_kd.errors import check_integer

_PREFETCH = 4


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """The number of batches per epoch; the last one may be smaller."""
    return math.ceil(split.num_examples / check_integer("batch_size", batch_size, at_least=1))


def evaluation_batches(split: Split, batch_size: int, *, one_hot: int | None = None) -> Any:
    """One pass over the split, in order.

    Args:
        split: the split to read.
        batch_size: the batch size; the last batch may be smaller.
        one_hot: the number of classes, to return classification labels as float32 `[b, classes]`, the form of mixed
            labels.

    Returns:
        A `tf.data.Dataset` of `(x [b, *example_shape], y [b, ...])`, of known cardinality, with the dtypes of
        `Split.arrays`.

    Raises:
        ConfigurationError: a batch size below 1.
    """
    import tensorflow as tf

    steps = steps_per_epoch(split, batch_size)
    data = _gathered(split, batch_size) if split.records.fits_in_memory else split.stored_stream().batch(batch_size)
    data = data.map(lambda x, y: (split.scaling(x), y if one_hot is None else tf.one_hot(y, one_hot)))
    data = data.apply(tf.data.experimental.assert_cardinality(steps))
    return without_autotune(data.prefetch(_PREFETCH))


def _gathered(split: Split, batch_size: int) -> Any:
    import tensorflow as tf

    with tf.device("CPU:0"):
        stored, labels = tf.constant(split.records.stored), tf.constant(split.labels())

    def batch_at(start):
        return stored[start : start + batch_size], labels[start : start + batch_size]

    return tf.data.Dataset.range(0, split.num_examples, batch_size).map(batch_at)
