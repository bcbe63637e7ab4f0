"""The fake quantization of a weight: the function from the trained weight to the one on the grid of the integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.clustering.clusters import Clusters
from keras_kd.compression.clustering.fixed import cluster_axes
from keras_kd.compression.quantization.fake_quant import (
    IntegerRange,
    fake_quantize,
    fake_quantize_channels,
    symmetric_range,
)
from keras_kd.compression.quantization.inside import TRANSPOSED
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.features.paths import layers_by_path
from keras_kd.serialization import register
from keras_kd.surgery.weights import weights_by_name


@register
class FakeQuantizedWeight(WeightFunction):
    """Rounds a weight to `scale * integer` with integers from `1 - 2^(bits - 1)` to `2^(bits - 1) - 1`.

    The scale follows the weight, `max |weight| / (2^(bits - 1) - 1)`, so that the function has no state. Zeros stay
    zeros, and equal values of a channel stay equal. A weight with one set of clusters for all channels gets one scale,
    so that it keeps their number.

    Args:
        bits: 2 to 8.
        axes: the axes of the channels that have a scale each; empty for one scale.
    """

    def __init__(self, *, bits: int = 8, axes: Sequence[int] = (), **settings: Any):
        super().__init__(**settings)
        self.bits, self.axes = bits, tuple(axes)

    def call(self, weight, training=False):
        minimum, maximum = self.limits(weight)
        if not self.axes:
            return fake_quantize(weight, minimum, maximum, bits=self.bits, narrow=True)
        return fake_quantize_channels(weight, maximum, bits=self.bits, axes=self.axes)

    def limits(self, weight: Any) -> tuple[Any, Any]:
        """The minimum and maximum to which a weight is rounded, as tensors: `()` or `(channels,)`."""
        return symmetric_range(ops.stop_gradient(weight), self.axes)

    def range(self, weight: Any) -> IntegerRange:
        """The range to which a weight is rounded."""
        limits = self.limits(ops.convert_to_tensor(weight))
        minimum, maximum = (np.asarray(ops.convert_to_numpy(value), "float32") for value in limits)
        return IntegerRange(minimum, maximum, self.bits, narrow=True, axes=self.axes)

    def after(self, functions, value):
        """Uses one scale if all channels have the same clusters, which would otherwise become other values in each."""
        if cluster_axes(value) == () or any(isinstance(one, Clusters) and one.view is None for one in functions):
            self.axes = ()

    def get_config(self):
        return super().get_config() | {"bits": self.bits, "axes": self.axes}


_CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
)


def channel_axes(layer: keras.layers.Layer, name: str, *, dense: bool = False) -> tuple[int, ...]:
    """The axes of the output channels of a convolution's kernel; empty for any other weight, which has one scale.

    Args:
        layer: a built layer.
        name: of one of its kernels, as in `weights_by_name`.
        dense: whether a dense layer has a scale for each of its units as well.

    >>> layer = keras.layers.DepthwiseConv2D(3)
    >>> layer.build((None, 8, 8, 4))
    >>> channel_axes(layer, "kernel")
    (2, 3)
    """
    path, _, weight = name.rpartition("/")
    owner = layers_by_path(layer)[path] if path else layer
    rank = len(weights_by_name(layer)[name].shape)
    if isinstance(owner, TRANSPOSED):
        return (rank - 2,)
    if dense and isinstance(owner, keras.layers.Dense):
        return (rank - 1,)
    if not isinstance(owner, _CONVOLUTIONS):
        return ()
    is_depthwise = weight.startswith("depthwise") or type(owner).__name__.startswith("Depthwise")
    return (rank - 2, rank - 1) if is_depthwise else (rank - 1,)
