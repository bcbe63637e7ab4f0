"""MobileNetV2 for 32x32 images, at half width.

Layers: `stem`, `stage_1` to `stage_4`, `head`, `pool`, `logits`; inside, `stage_1_block_2_expand_conv` and so on.
Blocks end without a ReLU, so there is no `stage_1_preact`. For the padding of stride 2, see `blocks`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import initializers, layers

from keras_kd.models.blocks import classifier, conv_bn, conv_bn_relu, depthwise_bn

# The rows (expansion, width, blocks, strides) of the source, grouped by the maps that the tables tap.
_STAGES = (
    ((1, 8, 1, 1), (6, 12, 2, 1)),
    ((6, 16, 3, 2),),
    ((6, 32, 4, 2), (6, 48, 3, 1)),
    ((6, 80, 3, 2), (6, 160, 1, 1)),
)


def mobilenetv2(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """MobileNetV2 with expansion 6 at half width: 812,836 parameters for 32x32x3 and 100 classes.

    M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, in the form of the tables of
    Y. Tian et al., "Contrastive Representation Distillation", 2020: strides for 32x32 pixels, ReLU for ReLU6, an
    expanding convolution in the first block as well, no dropout.

    >>> mobilenetv2((32, 32, 3), 100).get_layer("stage_4").output.shape
    (None, 2, 2, 160)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn_relu(inputs, 16, strides=2, names="stem_{}", relu="stem")
    for stage, rows in enumerate(_STAGES, start=1):
        blocks = _blocks_of(rows)
        for number, (expansion, width, strides) in enumerate(blocks, start=1):
            out = f"stage_{stage}" if number == len(blocks) else None
            x = _inverted_residual(x, expansion, width, strides, name=f"stage_{stage}_block_{number}", out=out)
    x = conv_bn_relu(x, 1280, 1, names="head_{}", relu="head")
    return classifier(inputs, x, num_classes, name="mobilenetv2", initializer=initializers.RandomNormal(stddev=0.01))


def _blocks_of(rows: tuple[tuple[int, int, int, int], ...]) -> list[tuple[int, int, int]]:
    """(expansion, width, strides) of every block; only the first of a row has the row's strides.

    >>> _blocks_of(((1, 8, 1, 1), (6, 12, 2, 2)))
    [(1, 8, 1), (6, 12, 2), (6, 12, 1)]
    """
    return [
        (expansion, width, strides if number == 0 else 1)
        for expansion, width, repeats, strides in rows
        for number in range(repeats)
    ]


def _inverted_residual(x: Any, expansion: int, width: int, strides: int, *, name: str, out: str | None) -> Any:
    """Expansion, depthwise convolution, projection; adds x if the shape is unchanged. `out` names the last layer."""
    is_residual = strides == 1 and x.shape[-1] == width
    y = conv_bn_relu(x, x.shape[-1] * expansion, 1, names=name + "_expand_{}")
    y = depthwise_bn(y, strides=strides, names=name + "_depthwise_{}")
    y = layers.ReLU(name=f"{name}_depthwise_relu")(y)
    y = conv_bn(y, width, 1, names=name + "_project_{}", bn=None if is_residual else out)
    return layers.Add(name=out or f"{name}_add")([x, y]) if is_residual else y
