"""ShuffleNet V1 and V2 for 32x32 images.

Layers: `stem`, `stage_1` to `stage_3` (the end of each stage; `stage_1_preact` is the map before its last ReLU),
`pool`, `logits`, in V2 `head` before them; inside, `stage_1_block_2_conv1` and so on. The splits of V2 are operations
of `keras.ops`, which Keras numbers by itself: `split`, `split_1`. For the padding of stride 2, see `blocks`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import layers

from keras_kd.models import blocks
from keras_kd.models.blocks import classifier, output_names, torch_uniform

_V1_STAGES = ((240, 4), (480, 8), (960, 4))
_V1_GROUPS = 3
_V2_STAGES = ((116, 4), (232, 8), (464, 4))

# The source uses PyTorch's default initialization.
_conv_bn = partial(blocks.conv_bn, initializer=torch_uniform)
_conv_bn_relu = partial(blocks.conv_bn_relu, initializer=torch_uniform)
_depthwise_bn = partial(blocks.depthwise_bn, initializer=torch_uniform)


def shufflenetv1(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """ShuffleNet with three groups: 949,258 parameters for 32x32x3 and 100 classes.

    X. Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", 2018, in the
    form of the tables of Y. Tian et al., "Contrastive Representation Distillation", 2020: a 1x1 stem without pooling,
    and a ReLU after the depthwise convolution. The average pooling of the shortcuts excludes the padding.

    >>> shufflenetv1((32, 32, 3), 100).get_layer("stage_3").output.shape
    (None, 4, 4, 960)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _conv_bn_relu(inputs, 24, 1, names="stem_{}", relu="stem")
    for stage, (width, num_blocks) in enumerate(_V1_STAGES, start=1):
        for block in range(1, num_blocks + 1):
            groups = 1 if stage == block == 1 else _V1_GROUPS
            name, outputs = f"stage_{stage}_block_{block}", output_names(stage, block, num_blocks)
            x = _v1_block(x, width, groups, is_first=block == 1, name=name, outputs=outputs)
    return classifier(inputs, x, num_classes, name="shufflenetv1")


def shufflenetv2(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """ShuffleNetV2 of size 1: 1,355,528 parameters for 32x32x3 and 100 classes.

    N. Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", 2018, in the form of the
    tables of Y. Tian et al., "Contrastive Representation Distillation", 2020: a 1x1 stem without pooling. As there,
    `stage_1` is the map after the last shuffle, and `stage_1_preact` has the channel order before it.

    >>> shufflenetv2((32, 32, 3), 100).get_layer("stage_3").output.shape
    (None, 4, 4, 464)

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _conv_bn_relu(inputs, 24, 1, names="stem_{}", relu="stem")
    for stage, (width, num_blocks) in enumerate(_V2_STAGES, start=1):
        x = _v2_first_block(x, width, name=f"stage_{stage}_block_1")
        for block in range(2, num_blocks):
            x = _v2_block(x, name=f"stage_{stage}_block_{block}")
        x = _v2_last_block(x, name=f"stage_{stage}_block_{num_blocks}", stage=f"stage_{stage}")
    x = _conv_bn_relu(x, 1024, 1, names="head_{}", relu="head")
    return classifier(inputs, x, num_classes, name="shufflenetv2")


def _v1_block(x: Any, width: int, groups: int, *, is_first: bool, name: str, outputs: tuple[str, str]) -> Any:
    """relu(F(x) + x); the first block of a stage halves the size and instead concatenates pooled x after F(x)."""
    filters = width - x.shape[-1] if is_first else width
    strides = 2 if is_first else 1
    y = _conv_bn_relu(x, filters // 4, 1, groups=groups, names=name + "_{}1")
    y = _shuffle(y, groups, name=f"{name}_shuffle")
    y = layers.ReLU(name=f"{name}_relu2")(_depthwise_bn(y, strides=strides, names=name + "_{}2"))
    y = _conv_bn(y, filters, 1, groups=_V1_GROUPS, names=name + "_{}3")
    preact, relu = outputs
    if is_first:
        x = layers.AveragePooling2D(3, strides=2, padding="same", name=f"{name}_shortcut_pool")(x)
        return layers.ReLU(name=relu)(layers.Concatenate(name=f"{name}_concat")([y, x]))
    return layers.ReLU(name=relu)(layers.Add(name=preact)([y, x]))


def _v2_first_block(x: Any, width: int, *, name: str) -> Any:
    """Halves the size and widens: two branches, each applied to all of x."""
    left = _depthwise_bn(x, strides=2, names=name + "_left_{}1")
    left = _conv_bn_relu(left, width // 2, 1, names=name + "_left_{}2")
    right = _conv_bn_relu(x, width // 2, 1, names=name + "_right_{}1")
    right = _depthwise_bn(right, strides=2, names=name + "_right_{}2")
    right = _conv_bn_relu(right, width // 2, 1, names=name + "_right_{}3")
    x = layers.Concatenate(name=f"{name}_concat")([left, right])
    return _shuffle(x, 2, name=f"{name}_shuffle")


def _v2_block(x: Any, *, name: str) -> Any:
    """Half of the channels pass unchanged, the other half are convolved, then all are shuffled."""
    left, right = _v2_branches(x, name=name)
    x = layers.Concatenate(name=f"{name}_concat")([left, layers.ReLU(name=f"{name}_relu3")(right)])
    return _shuffle(x, 2, name=f"{name}_shuffle")


def _v2_last_block(x: Any, *, name: str, stage: str) -> Any:
    """Like the other blocks, with the ReLU over both halves, so that the map before the ReLU can be tapped.

    This changes no value, since the half that passes is never negative.
    """
    x = layers.Concatenate(name=f"{stage}_preact")(_v2_branches(x, name=name))
    return _shuffle(layers.ReLU(name=f"{name}_relu3")(x), 2, name=stage)


def _v2_branches(x: Any, *, name: str) -> tuple[Any, Any]:
    left, right = keras.ops.split(x, 2, axis=-1)
    right = _conv_bn_relu(right, right.shape[-1], 1, names=name + "_{}1")
    right = _depthwise_bn(right, names=name + "_{}2")
    return left, _conv_bn(right, right.shape[-1], 1, names=name + "_{}3")


def _shuffle(x: Any, groups: int, *, name: str) -> Any:
    """Interleaves the channels of the groups: `a1 a2 b1 b2` becomes `a1 b1 a2 b2`.

    Height and width are merged for the transpose, because many TFLite delegates transpose at most four axes.
    """
    if groups == 1:
        return x
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height * width, groups, channels // groups), name=f"{name}_groups")(x)
    x = layers.Permute((1, 3, 2), name=f"{name}_transpose")(x)
    return layers.Reshape((height, width, channels), name=name)(x)
