"""An auto-encoder that compresses a teacher's feature maps, and the loss that trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers, ops

from keras_kd.errors import check_choice, check_integer
from keras_kd.features.projectors import BATCH_NORM, normalize, published_uniform
from keras_kd.losses.numerics import flatten, upcast
from keras_kd.serialization import register

NUM_LAYERS = 3
SLOPE = 0.1


def reconstruction(features: Any, decoded: Any, code: Any, sparsity: float = 1e-7) -> Any:
    """`mean((features - decoded)^2) + sparsity * sum(|code|)` of each example.

    The sparsity keeps the code from being a copy of the features. The paper sums the squares; this function averages
    them, as torchdistill does, which takes the norm of the code over the whole batch.

    Source: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", 2019, section 3.1.

    Args:
        features, decoded: `[batch, ...]`, of equal shape.
        code: `[batch, ...]`.
        sparsity: the paper's alpha.

    Returns:
        `[batch]`.
    """
    features, decoded, code = map(flatten, upcast(features, decoded, code))
    return ops.mean(ops.square(features - decoded), axis=-1) + sparsity * ops.sum(ops.abs(code), axis=-1)


@register
class AutoEncoder(layers.Layer):
    """Three strided 3x3 convolutions, and three transposed ones in reverse, in float32.

    Each but the last has batch normalization and a leaky ReLU of slope 0.1, as in torchdistill; the last is linear,
    since features may have any sign.

    Args:
        channels: the channels of the code.
        strides: of the three convolutions, each 1 or 2.
    """

    def __init__(self, channels: int, *, strides: Sequence[int] = (1, 1, 1), name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self.channels = check_integer("channels", channels, at_least=1)
        check_integer("the number of strides", len(strides), at_least=NUM_LAYERS, at_most=NUM_LAYERS)
        self.strides = tuple(check_choice("strides", stride, (1, 2)) for stride in strides)

    def build(self, input_shape):
        wide, code = input_shape[-1], self.channels
        self.encoder = [
            self._layer(layers.Conv2D, width, stride)
            for width, stride in zip((wide, code, code), self.strides, strict=True)
        ]
        self.decoder = [
            self._layer(layers.Conv2DTranspose, width, stride)
            for width, stride in zip((code, wide, wide), reversed(self.strides), strict=True)
        ]
        shape = tuple(input_shape)
        self.norms = [layers.BatchNormalization(**BATCH_NORM) for _ in range(2 * NUM_LAYERS - 1)]
        for layer, norm in zip([*self.encoder, *self.decoder], [*self.norms, None], strict=True):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
            if norm is not None:
                norm.build(shape)

    def call(self, features, included=None, training=None):
        """The code and its reconstruction.

        Args:
            features: `[batch, height, width, channels]`.
            included: bool `[batch, 1, 1, 1]`: the examples in the batch statistics; None includes all.
            training: whether batch normalization uses and updates its batch statistics.
        """
        code = self._run(self.encoder, self.norms[:NUM_LAYERS], features, included, training)
        decoded = self._run(self.decoder[:-1], self.norms[NUM_LAYERS:], code, included, training)
        decoded = self.decoder[-1](decoded)
        height, width = features.shape[1:3]
        return code, decoded[:, :height, :width]  # strides round a size up

    def _run(self, convolutions, norms, values, included, training):
        for convolve, norm in zip(convolutions, norms, strict=True):
            values = ops.leaky_relu(normalize(norm, convolve(values), included, training), negative_slope=SLOPE)
        return values

    def _layer(self, make, width, stride):
        return make(width, 3, strides=stride, padding="same", kernel_initializer=published_uniform(), dtype="float32")

    def get_config(self):
        return {"channels": self.channels, "strides": self.strides, "name": self.name}
