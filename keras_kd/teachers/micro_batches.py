"""Runs a batch in pieces, one at a time, so that only one piece's activations are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def in_micro_batches(function: Callable[[Any], Any], inputs: Any, size: int) -> Any:
    """`function(inputs)`, computed in pieces of at most `size` examples.

    All pieces have the same length, the smallest that does not increase their number. If it does not divide the batch,
    the last example is repeated and the extra outputs are dropped. The batch size may be dynamic.

    Args:
        function: `[n, ...] -> [n, ...]`, independent per example, for any n; its outputs may be nested.
        inputs: a tensor `[batch, ...]`, or several in a list, a tuple or a dict.
        size: examples, at least 1.

    >>> double = lambda x: {"output": x * ops.cast(ops.shape(x)[0], "int32")}
    >>> in_micro_batches(double, ops.array([1, 2, 3, 4, 5]), 4)["output"].numpy().tolist()
    [3, 6, 9, 12, 15]
    """
    batch = ops.shape(keras.tree.flatten(inputs)[0])[0]
    if isinstance(batch, int) and batch <= size:
        return function(inputs)
    num_pieces = -(-batch // size)
    length = -(-batch // num_pieces)

    def run(shapes, start):
        rows = ops.minimum(start + ops.arange(length, dtype="int32"), batch - 1)
        return shapes, function(keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), inputs))

    starts = ops.arange(num_pieces, dtype="int32") * length
    _, outputs = ops.scan(run, _zeros_like_outputs(function, inputs, length), starts)  # unlike `map`, sequential in TF
    return keras.tree.map_structure(lambda p: ops.reshape(p, (-1, *ops.shape(p)[2:]))[:batch], outputs)


def _zeros_like_outputs(function: Callable[[Any], Any], inputs: Any, length: Any) -> Any:
    """Zeros with the shapes of one piece's outputs: `scan` requires its outputs to have the shape of its state."""
    outputs = function(keras.tree.map_structure(lambda x: x[:1], inputs))
    return keras.tree.map_structure(
        lambda value: ops.zeros((length, *ops.shape(value)[1:]), dtype=value.dtype), outputs
    )
