"""A kernel pruned and quantized without training, and the bytes that it takes then."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd.compression.pruning import masks
from keras_kd.compression.quantization.fake_quant import fake_quantize_channels, nudge, symmetric_range
from keras_kd.compression.selection import matrix_view

SCALE_BYTES = 4


class Setting(NamedTuple):
    """What is done to the kernels of a layer: the fraction of zeros, and the bits of a weight (None: float)."""

    sparsity: float = 0.0
    bits: int | None = None


def as_matrix(layer: keras.layers.Layer, name: str, kernel: Any) -> Any:
    """A kernel of a layer with its output channels on the last axis: each has a scale of its own.

    Depthwise kernels `(..., channels, multiplier)` have a channel for each filter.
    """
    view = matrix_view(layer, name)
    if view is not None:
        return view.matrix(kernel)
    is_depthwise = name.rpartition("/")[2].startswith("depthwise") or type(layer).__name__.startswith("Depthwise")
    shape = tuple(kernel.shape)
    return ops.reshape(kernel, (*shape[:-2], math.prod(shape[-2:]))) if is_depthwise else kernel


def from_matrix(layer: keras.layers.Layer, name: str, matrix: Any, shape: tuple[int, ...]) -> Any:
    """The inverse of `as_matrix`."""
    view = matrix_view(layer, name)
    return ops.reshape(matrix, shape) if view is None else view.kernel(matrix, shape)


def compressed(matrix: Any, setting: Setting) -> np.ndarray:
    """Zeros for the smallest magnitudes, and the others rounded to a symmetric grid for each channel.

        scale = max |channel| / (2^(bits - 1) - 1)

    Args:
        matrix: `(..., channels)`.

    Returns:
        Float32 of the same shape.
    """
    values = ops.cast(matrix, "float32")
    if setting.sparsity:
        values = values * masks.unstructured(ops.abs(values), setting.sparsity)
    if setting.bits is not None:
        axes = (len(values.shape) - 1,)
        values = fake_quantize_channels(values, symmetric_range(values, axes)[1], bits=setting.bits, axes=axes)
    return np.asarray(ops.convert_to_numpy(values), "float32")


def num_bytes(matrix: Any, setting: Setting) -> int:
    """The size of a compressed kernel in bytes: its numbers gzipped, and the scales.

    The numbers are float32, or integers of one byte: with fewer bits or more zeros, the same code takes less room.
    """
    values = compressed(matrix, setting)
    if setting.bits is None:
        return zipped_bytes(values)
    axes = (values.ndim - 1,)
    scale = ops.convert_to_numpy(nudge(*symmetric_range(values, axes), setting.bits, True)[2])
    return zipped_bytes(np.rint(values / scale).astype("int8")) + SCALE_BYTES * scale.size


def zipped_bytes(values: np.ndarray) -> int:
    """The size of an array's content after gzip (deflate), in bytes."""
    return len(zlib.compress(np.ascontiguousarray(values).tobytes(), 6))
