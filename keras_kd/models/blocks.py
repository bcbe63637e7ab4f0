"""Convolution, batch normalization, ReLU and the head shared by the CIFAR models of the distillation tables.

Their source is PyTorch code, so batch normalization and initial kernels follow PyTorch. The padding is Keras' "same": a
3x3 convolution of stride 2 over an even size pads one pixel at the end, while PyTorch pads one at each end. Shapes and
parameters are the same, but the sampled pixels differ, so weights trained in PyTorch cannot be reused.

Names are patterns with a placeholder for the kind of layer: `"stem_{}"` names `stem_conv` and `stem_bn`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import initializers, layers

_MOMENTUM = 0.9  # PyTorch's 0.1 is the weight of the new batch; Keras' momentum is that of the past
_EPSILON = 1e-5

Initializer = Callable[[int, int], keras.initializers.Initializer]


def he_normal(fan_in: int, fan_out: int) -> keras.initializers.Initializer:
    """Normal with variance 2 / fan_out (K. He et al., "Delving Deep into Rectifiers", 2015).

    Computed here because Keras takes the fan-out of a depthwise kernel to be that of one channel.
    """
    return initializers.RandomNormal(stddev=math.sqrt(2 / fan_out))


def torch_uniform(fan_in: int, fan_out: int) -> keras.initializers.Initializer:
    """Uniform within 1 / sqrt(fan_in), PyTorch's default initialization."""
    limit = 1 / math.sqrt(fan_in)
    return initializers.RandomUniform(-limit, limit)


def batch_norm(x: Any, *, name: str) -> Any:
    """Batch normalization with PyTorch's momentum and epsilon."""
    return layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=name)(x)


def conv(
    x: Any,
    filters: int,
    kernel_size: int = 3,
    *,
    name: str,
    strides: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    initializer: Initializer = he_normal,
) -> Any:
    """A convolution with "same" padding."""
    area = kernel_size**2
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=initializer(area * x.shape[-1] // groups, area * filters),
        name=name,
    )(x)


def conv_bn(x: Any, filters: int, kernel_size: int = 3, *, names: str, bn: str | None = None, **settings: Any) -> Any:
    """A convolution and batch normalization; `bn` overrides the name of the latter."""
    x = conv(x, filters, kernel_size, name=names.format("conv"), **settings)
    return batch_norm(x, name=bn or names.format("bn"))


def conv_bn_relu(
    x: Any, filters: int, kernel_size: int = 3, *, names: str, relu: str | None = None, **settings: Any
) -> Any:
    """A convolution, batch normalization and ReLU; `relu` overrides the name of the last."""
    x = conv_bn(x, filters, kernel_size, names=names, **settings)
    return layers.ReLU(name=relu or names.format("relu"))(x)


def depthwise_bn(x: Any, *, names: str, strides: int = 1, initializer: Initializer = he_normal) -> Any:
    """A 3x3 depthwise convolution and batch normalization."""
    x = layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=initializer(9, 9 * x.shape[-1]),
        name=names.format("conv"),
    )(x)
    return batch_norm(x, name=names.format("bn"))


def output_names(stage: int, block: int, num_blocks: int) -> tuple[str, str]:
    """The names of a block's sum and of the ReLU after it; those of the last block are named after the stage.

    >>> output_names(1, 2, 3), output_names(1, 3, 3)
    (('stage_1_block_2_add', 'stage_1_block_2_relu'), ('stage_1_preact', 'stage_1'))
    """
    if block == num_blocks:
        return f"stage_{stage}_preact", f"stage_{stage}"
    return f"stage_{stage}_block_{block}_add", f"stage_{stage}_block_{block}_relu"


def classifier(
    inputs: Any,
    x: Any,
    num_classes: int,
    *,
    name: str,
    initializer: keras.initializers.Initializer | None = None,
) -> keras.Model:
    """The model that ends with global average pooling of `x` (`pool`) and a Dense layer (`logits`)."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    kernel = initializer or torch_uniform(x.shape[-1], num_classes)
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer=kernel, name="logits")(x), name=name)
