"""Batches for `model.fit`, in an order that depends on the seed and the epoch alone.

A run that stops and resumes at epoch k therefore sees exactly what an uninterrupted one would have seen.
`tf.data.Dataset.shuffle(seed=...)` would not do: its order also depends on `keras.utils.set_random_seed`, and on
how many epochs the iterator has already been through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_kd.data import splits
from keras_kd.data.checks import check_integer, check_seed
from keras_kd.data.splits import Split

_PREFETCH = 4


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of a split in the order in which training meets them in `epoch`: a permutation, int64 `[n]`.

    >>> epoch_order(5, seed=0, epoch=3).tolist() == epoch_order(5, seed=0, epoch=3).tolist()
    True
    """
    return np.random.RandomState([seed, epoch]).permutation(num_examples).astype(np.int64)


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """The number of batches of one epoch; the last one may be smaller."""
    return math.ceil(split.num_examples / check_integer("batch_size", batch_size, at_least=1))


def batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool = True,
    epochs: int = 1,
    first_epoch: int = 0,
    with_labels: bool = True,
) -> Any:
    """The batches of the epochs `first_epoch..epochs - 1`, one after the other.

        model.fit(
            batches(split, 64, seed=0, epochs=20, first_epoch=3),
            steps_per_epoch=steps_per_epoch(split, 64), epochs=20, initial_epoch=3, shuffle=False,
        )

    (`shuffle=False` because Keras warns that it does not shuffle datasets.)

    Each epoch has each example once, and its order is a pure function of `(seed, epoch)`. A split of up to
    `MEMORY_LIMIT_BYTES` is read once, kept, and permuted whole (`epoch_order`). A larger one is streamed, and
    permuted within blocks of a quarter of that size.

    Args:
        seed: 0..2**32 - 1; unused without `shuffle`.
        epochs: the number of the last epoch plus one, as in `fit`.
        first_epoch: the epoch to start at; 3 after three finished epochs.
        with_labels: without, the batches are `(x,)`.

    Returns:
        A `tf.data.Dataset` of `(x float32 [b, *example_shape], y int64 [b])`, b = `batch_size` except in the
        last batch of an epoch, and of known cardinality.

    Raises:
        ConfigurationError: a batch size, seed or epoch out of range.
    """
    import tensorflow as tf

    steps = steps_per_epoch(split, batch_size)
    seed = check_seed(seed)
    epochs = check_integer("epochs", epochs, at_least=1)
    first_epoch = check_integer("first_epoch", first_epoch, at_least=0, at_most=epochs)
    epoch_batches = _gathered if split.records.fits_in_memory else _streamed
    one_epoch = epoch_batches(split, batch_size, seed if shuffle else None)
    data = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
    if not with_labels:
        data = data.map(lambda x, y: (x,))
    data = data.apply(tf.data.experimental.assert_cardinality(steps * (epochs - first_epoch)))
    return splits.without_autotune(data.prefetch(_PREFETCH))


def evaluation_batches(split: Split, batch_size: int, *, with_labels: bool = True) -> Any:
    """The split once, in its own order, as `(x float32 [b, *example_shape], y int64 [b])` or `(x,)`.

    Raises:
        ConfigurationError: a batch size below 1.
    """
    return batches(split, batch_size, seed=0, shuffle=False, with_labels=with_labels)


def _gathered(split: Split, batch_size: int, seed: int | None) -> Callable[[Any], Any]:
    """epoch -> its batches, taken from memory; in the split's own order where `seed` is None."""
    import tensorflow as tf

    size = split.num_examples
    with tf.device("CPU:0"):
        stored, labels = tf.constant(split.records.stored), tf.constant(split.labels())

    def order_of(epoch):
        if seed is None:
            return tf.range(size, dtype=tf.int64)
        order = tf.numpy_function(lambda number: epoch_order(size, seed, int(number)), [epoch], tf.int64)
        return tf.ensure_shape(order, [size])

    def one_epoch(epoch):
        order = order_of(epoch)

        def batch_at(start):
            rows = order[start : start + batch_size]
            return split.scaling(tf.gather(stored, rows)), tf.gather(labels, rows)

        return tf.data.Dataset.range(0, size, batch_size).map(batch_at)

    return one_epoch


def _streamed(split: Split, batch_size: int, seed: int | None) -> Callable[[Any], Any]:
    """epoch -> its batches, read from disk; in the split's own order where `seed` is None."""
    import tensorflow as tf

    example_bytes = split.records.num_bytes // split.num_examples
    block_size = max(batch_size, splits.MEMORY_LIMIT_BYTES // 4 // example_bytes)
    stream = split.stored_stream()

    def permuted(epoch, block, x, y):
        order = tf.numpy_function(
            lambda *numbers: np.random.RandomState([seed, *numbers[:2]]).permutation(numbers[2]).astype(np.int64),
            [epoch, block, tf.size(y, tf.int64)],
            tf.int64,
        )
        order = tf.ensure_shape(order, [None])
        return tf.gather(x, order), tf.gather(y, order)

    def one_epoch(epoch):
        data = stream
        if seed is not None:
            blocks = stream.batch(block_size).enumerate()
            data = blocks.map(lambda block, pair: permuted(epoch, block, *pair)).unbatch()
        return data.batch(batch_size).map(lambda x, y: (split.scaling(x), y), tf.data.AUTOTUNE)

    return one_epoch
