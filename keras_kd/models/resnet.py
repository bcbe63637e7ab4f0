"""The residual networks for 32x32 images: two of the original widths, two four times as wide.

Layers: `stem`, `stage_1` to `stage_3` (each the ReLU that ends the stage; `stage_1_preact` is the sum before it),
`pool`, `logits`; inside, `stage_1_block_2_conv1` and so on. For the padding of stride 2, see `blocks`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_kd.models.blocks import classifier, conv_bn, conv_bn_relu, output_names

_NARROW = (16, 16, 32, 64)
_WIDE = (32, 64, 128, 256)


def resnet8(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The smallest of the family, one block per stage: 83,892 parameters for 32x32x3 and 100 classes.

    Otherwise like `resnet20`.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _resnet("resnet8", input_shape, num_classes, depth=8, widths=_NARROW)


def resnet20(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The residual network of 20 layers: 278,324 parameters for 32x32x3 and 100 classes.

    K. He et al., "Deep Residual Learning for Image Recognition", 2016; with 1x1 convolutions on shortcuts that change
    shape, as in the tables of Y. Tian et al., "Contrastive Representation Distillation", 2020.

    >>> resnet20((32, 32, 3), 100).get_layer("stage_3").output.shape
    (None, 8, 8, 64)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _resnet("resnet20", input_shape, num_classes, depth=20, widths=_NARROW)


def resnet56(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The residual network of 56 layers: 861,620 parameters for 32x32x3 and 100 classes.

    Like `resnet20`, with nine blocks per stage.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _resnet("resnet56", input_shape, num_classes, depth=56, widths=_NARROW)


def resnet8x4(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A residual network of 8 layers, four times as wide: 1,233,540 parameters for 32x32x3 and 100 classes.

    The stem is twice as wide as in `resnet20`. Y. Tian et al., "Contrastive Representation Distillation", 2020.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _resnet("resnet8x4", input_shape, num_classes, depth=8, widths=_WIDE)


def resnet32x4(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A residual network of 32 layers, four times as wide: 7,433,860 parameters for 32x32x3 and 100 classes.

    The teacher of `resnet8x4`: the same widths, with five blocks per stage instead of one.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _resnet("resnet32x4", input_shape, num_classes, depth=32, widths=_WIDE)


def _resnet(
    name: str, input_shape: tuple[int, int, int], num_classes: int, *, depth: int, widths: tuple[int, int, int, int]
) -> keras.Model:
    """`depth` counts the stem, two convolutions per block and the Dense layer; `widths` are of stem and stages."""
    num_blocks = (depth - 2) // 6
    inputs = keras.Input(input_shape, name="image")
    x = conv_bn_relu(inputs, widths[0], names="stem_{}", relu="stem")
    for stage, width in enumerate(widths[1:], start=1):
        for block in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            outputs = output_names(stage, block, num_blocks)
            x = _block(x, width, strides, name=f"stage_{stage}_block_{block}", outputs=outputs)
    return classifier(inputs, x, num_classes, name=name)


def _block(x: Any, width: int, strides: int, *, name: str, outputs: tuple[str, str]) -> Any:
    """relu(x + F(x)); x goes through a 1x1 convolution if its shape changes."""
    y = conv_bn_relu(x, width, strides=strides, names=name + "_{}1")
    y = conv_bn(y, width, names=name + "_{}2")
    if strides != 1 or x.shape[-1] != width:
        x = conv_bn(x, width, 1, strides=strides, names=name + "_shortcut_{}")
    preact, relu = outputs
    return layers.ReLU(name=relu)(layers.Add(name=preact)([y, x]))
