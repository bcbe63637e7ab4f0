"""The pair for the 8x8 digits of scikit-learn: small enough to train on a laptop in a minute."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

# Keras' default of 0.99 needs hundreds of steps to forget the initial values; an epoch of the digits has 17.
_MOMENTUM = 0.9


def digits_teacher(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    dropout: float = 0.3,
) -> keras.Model:
    """A small residual network: one block per width, each but the first at half the size of the previous one.

    309,418 parameters on the digits. After K. He et al., "Deep Residual Learning for Image Recognition", 2016, with
    dropout inside the blocks (half of `dropout`) and before the logits.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _conv_bn_relu(inputs, widths[0], name="stem")
    for number, width in enumerate(widths, start=1):
        strides = 1 if number == 1 else 2
        x = _residual_block(x, width, strides, dropout / 2, name=f"block_{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="digits_teacher")


def digits_student(
    input_shape: tuple[int, int, int], num_classes: int, *, widths: tuple[int, ...] = (8, 12, 16, 24)
) -> keras.Model:
    """A plain stack of convolutions, the second at half the size: 6,610 parameters on the digits.

    Each is convolution, batch normalization, ReLU, which TFLite fuses into one operator.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = x = keras.Input(input_shape, name="image")
    for number, width in enumerate(widths, start=1):
        x = _conv_bn_relu(x, width, strides=2 if number == 2 else 1, name=f"block_{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="digits_student")


def _residual_block(x: Any, width: int, strides: int, dropout: float, *, name: str) -> Any:
    """relu(x + F(x)); x goes through a 1x1 convolution if its shape changes."""
    y = _conv_bn_relu(x, width, strides=strides, name=f"{name}_1")
    y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = _conv_bn(y, width, name=f"{name}_2")
    if strides != 1 or x.shape[-1] != width:
        x = _conv_bn(x, width, kernel_size=1, strides=strides, name=f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))


def _conv_bn_relu(x: Any, width: int, *, strides: int = 1, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(_conv_bn(x, width, strides=strides, name=name))


def _conv_bn(x: Any, width: int, *, kernel_size: int = 3, strides: int = 1, name: str) -> Any:
    x = layers.Conv2D(width, kernel_size, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(x)
