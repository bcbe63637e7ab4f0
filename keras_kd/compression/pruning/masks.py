"""Which weights of a kernel are kept: masks from scores, by `keras.ops` alone.

A kernel is passed as a matrix of shape `(..., inputs, outputs)`; leading axes are positions, such as the height and
width of a convolution. A mask has the kernel's shape and contains ones (kept) and zeros (pruned).
"""

from __future__ import annotations

from typing import Any

from keras import ops


def num_kept(size: Any, sparsity: Any) -> Any:
    """The number of weights kept out of `size`: at least one, rounded half to even as in TFMOT.

    >>> int(num_kept(10, 0.75)), int(num_kept(10, 1.0))
    (2, 1)
    """
    return ops.cast(ops.maximum(ops.round(ops.cast(size, "float32") * (1.0 - sparsity)), 1.0), "int32")


def largest(scores: Any, kept: Any) -> Any:
    """The mask of the `kept` largest scores. Among equal scores the first ones, so that the number is exact.

    Args:
        scores: of any shape.
        kept: how many, at least 1; a number or an integer scalar.

    Returns:
        A float32 mask of the shape of `scores`.

    >>> ops.convert_to_numpy(largest(ops.array([0.1, 0.3, 0.3, 0.2, 0.3]), 2)).tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    """
    flat = ops.reshape(ops.cast(scores, "float32"), (-1,))
    ordered = ops.sort(flat)
    threshold = ops.take(ordered, ops.shape(flat)[0] - ops.cast(kept, "int32"))
    above = flat > threshold
    equal = flat == threshold
    room = ops.cast(kept, "int32") - ops.sum(ops.cast(above, "int32"))
    first = ops.cumsum(ops.cast(equal, "int32")) <= room
    mask = ops.logical_or(above, ops.logical_and(equal, first))
    return ops.reshape(ops.cast(mask, "float32"), ops.shape(scores))


def unstructured(scores: Any, sparsity: Any) -> Any:
    """Keeps the weights with the largest scores, `1 - sparsity` of them.

    Source: M. Zhu & S. Gupta, "To prune, or not to prune", 2017.

    Args:
        scores: of any shape, at least 0.
        sparsity: the fraction of zeros, 0 to 1.
    """
    return largest(scores, num_kept(ops.size(scores), sparsity))


def blocks(scores: Any, sparsity: Any, block: tuple[int, int]) -> Any:
    """Keeps whole blocks of the matrix `(inputs, outputs)`, those with the largest mean score.

    Blocks at the edge may be smaller; their mean is over the weights that they have. The sparsity counts blocks.

    Source: S. Narang, E. Undersander & G. Diamos, "Block-Sparse Recurrent Neural Networks", 2017.

    Args:
        scores: `(..., inputs, outputs)`, at least 0.
        sparsity: the fraction of blocks that are zero, 0 to 1.
        block: height and width of a block: along the inputs, and along the outputs.
    """
    *_, rows, columns = scores.shape
    kept = unstructured(block_means(scores, block), sparsity)
    spread = ops.repeat(ops.repeat(kept, block[0], axis=-2), block[1], axis=-1)
    return spread[..., :rows, :columns]


def block_means(scores: Any, block: tuple[int, int]) -> Any:
    """The mean score of each block of the matrix `(..., inputs, outputs)`, over the weights that it has."""
    *positions, rows, columns = scores.shape
    height, width = block
    padding = [(0, 0)] * len(positions) + [(0, -rows % height), (0, -columns % width)]

    def sums(values):
        tiled = ops.reshape(
            ops.pad(values, padding), (*positions, -(-rows // height), height, -(-columns // width), width)
        )
        return ops.sum(tiled, axis=(-3, -1))

    scores = ops.cast(scores, "float32")
    return sums(scores) / sums(ops.ones_like(scores))


def n_of_m(scores: Any, sparsity: Any, n: int, m: int) -> Any:
    """Keeps at most `n` of every `m` neighboring inputs of an output, those with the largest scores.

    A sparsity below `1 - n / m` zeroes fewer in each group, as a schedule on its way does; one above it prunes the
    remaining weights further, without structure. The last group may be smaller; what it lacks counts as zeros.

    Source: A. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021.

    Args:
        scores: `(..., inputs, outputs)`, at least 0.
        sparsity: the fraction of zeros, 0 to 1.
        n, m: for example 2 and 4.
    """
    scores = ops.cast(scores, "float32")
    structure = structure_n_of_m(scores, sparsity, n, m)
    size = ops.cast(ops.size(scores), "int32")
    free = largest(ops.where(structure > 0, scores, -1.0), num_kept(size, sparsity))
    return structure * free


def structure_n_of_m(scores: Any, sparsity: Any, n: int, m: int) -> Any:
    """The mask of the structure alone: as many zeros in each group as the sparsity asks for, at most `m - n`."""
    *positions, rows, columns = scores.shape
    padding = [(0, 0)] * len(positions) + [(0, -rows % m), (0, 0)]
    groups = ops.reshape(ops.pad(scores, padding, constant_values=-1.0), (*positions, -(-rows // m), m, columns))
    order = ops.argsort(-groups, axis=-2)
    rank = ops.argsort(order, axis=-2)  # 0 for the largest of a group
    zeros = ops.minimum(ops.floor(sparsity * m + 1e-4), m - n)
    structure = ops.reshape(ops.cast(ops.cast(rank, "float32") < m - zeros, "float32"), (*positions, -1, columns))
    return structure[..., :rows, :]
