"""Wide residual networks for 32x32 images, whose blocks normalize and activate before they convolve.

Such a stage ends in a sum without a ReLU directly after it. As in the tables, `stage_1` to `stage_3` are these sums and
`stem` is the bare first convolution; `stage_1_preact` is the sum after the next batch normalization, and `stage_1_relu`
after the ReLU that follows. The other layers: `pool`, `logits`, and `stage_1_block_2_conv1` and so on. For the padding
of stride 2, see `blocks`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_kd.models.blocks import batch_norm, classifier, conv, conv_bn_relu


def wrn_16_2(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The wide residual network of 16 layers, twice as wide: 703,284 parameters for 32x32x3 and 100 classes.

    S. Zagoruyko and N. Komodakis, "Wide Residual Networks", 2016, without dropout, as in the tables of Y. Tian et al.,
    "Contrastive Representation Distillation", 2020.

    >>> wrn_16_2((32, 32, 3), 100).get_layer("stage_3").output.shape
    (None, 8, 8, 128)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _wide_resnet("wrn_16_2", input_shape, num_classes, depth=16, widening=2)


def wrn_40_2(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """The wide residual network of 40 layers, twice as wide: 2,255,156 parameters for 32x32x3 and 100 classes.

    The teacher of `wrn_16_2`: the same widths, with six blocks per stage instead of two.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _wide_resnet("wrn_40_2", input_shape, num_classes, depth=40, widening=2)


def _wide_resnet(
    name: str, input_shape: tuple[int, int, int], num_classes: int, *, depth: int, widening: int
) -> keras.Model:
    """`depth` counts the convolutions: the stem, two per block, and one shortcut per stage."""
    num_blocks = (depth - 4) // 6
    inputs = keras.Input(input_shape, name="image")
    x = conv(inputs, 16, name="stem")
    activated = _bn_relu(x, bn="stem_preact", relu="stem_relu")
    for stage in (1, 2, 3):
        width = 16 * widening * 2 ** (stage - 1)
        for block in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            out, bn, relu = _names_after(stage, block, num_blocks)
            x = _block(x, activated, width, strides, name=f"stage_{stage}_block_{block}", out=out)
            activated = _bn_relu(x, bn=bn, relu=relu)
    return classifier(inputs, activated, num_classes, name=name)


def _block(x: Any, activated: Any, width: int, strides: int, *, name: str, out: str) -> Any:
    """x + F(activated); if the shape changes, a 1x1 convolution of `activated` replaces x."""
    y = conv_bn_relu(activated, width, strides=strides, names=name + "_{}1", bn=f"{name}_bn2", relu=f"{name}_relu2")
    y = conv(y, width, name=f"{name}_conv2")
    if x.shape[-1] != width:
        x = conv(activated, width, 1, strides=strides, name=f"{name}_shortcut_conv")
    return layers.Add(name=out)([x, y])


def _names_after(stage: int, block: int, num_blocks: int) -> tuple[str, str, str]:
    """The names of a block's sum, the batch normalization after it and its ReLU.

    >>> _names_after(1, 2, 2)
    ('stage_1', 'stage_1_preact', 'stage_1_relu')
    """
    if block == num_blocks:
        return f"stage_{stage}", f"stage_{stage}_preact", f"stage_{stage}_relu"
    following = f"stage_{stage}_block_{block + 1}"
    return f"stage_{stage}_block_{block}_add", f"{following}_bn1", f"{following}_relu1"


def _bn_relu(x: Any, *, bn: str, relu: str) -> Any:
    return layers.ReLU(name=relu)(batch_norm(x, name=bn))
