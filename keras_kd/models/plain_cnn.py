"""The plain CNNs of the teacher-assistant experiments: convolutions, poolings and Dense layers, nothing else.

Layers as in the other models: `stem`, `stage_1` and so on, each the last ReLU of a group of convolutions before its
pooling (`stage_1_preact` is the map before that ReLU), `flatten`, `logits`; `hidden` is the ReLU of the Dense layer
between the two, if there is one. Inside, `stem_conv1`, `stage_1_conv1` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from keras_kd.models.blocks import conv_bn_relu, torch_uniform


def plain_cnn_2(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    """Two convolutions: 13,082 parameters for 32x32x3 and 10 classes.

    After S. I. Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020. The number in the name
    of each model is its number of convolutions. The paper's models for CIFAR-100 are twice as wide (`width=2`); its
    plain_cnn_6 for CIFAR-100 ends without a pooling, and its plain_cnn_10 is this one with `hidden=512`.

    >>> plain_cnn_2((32, 32, 3), 10).get_layer("stage_1").output.shape
    (None, 16, 16, 16)

    Args:
        width: multiplies the channels of every convolution.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    return _plain_cnn("plain_cnn_2", input_shape, num_classes, [(16, 1), (16, 1)], width)


def plain_cnn_4(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    """Four convolutions: 37,338 parameters for 32x32x3 and 10 classes; see `plain_cnn_2`."""
    return _plain_cnn("plain_cnn_4", input_shape, num_classes, [(16, 2), (32, 2)], width)


def plain_cnn_6(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    """Six convolutions: 82,778 parameters for 32x32x3 and 10 classes; see `plain_cnn_2`."""
    return _plain_cnn("plain_cnn_6", input_shape, num_classes, [(16, 2), (32, 2), (64, 2)], width)


def plain_cnn_8(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1, hidden: int = 64
) -> keras.Model:
    """Eight convolutions and a hidden layer: 327,962 parameters for 32x32x3 and 10 classes; see `plain_cnn_2`.

    Args:
        width: multiplies the channels of every convolution.
        hidden: units of the Dense layer below the logits.
    """
    return _plain_cnn("plain_cnn_8", input_shape, num_classes, [(16, 2), (32, 2), (64, 2), (128, 2)], width, hidden)


def plain_cnn_10(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1, hidden: int = 128
) -> keras.Model:
    """Ten convolutions and a hidden layer: 2,487,850 parameters for 32x32x3 and 10 classes; see `plain_cnn_2`.

    The teacher of the others.

    Args:
        width: multiplies the channels of every convolution.
        hidden: units of the Dense layer below the logits.
    """
    return _plain_cnn("plain_cnn_10", input_shape, num_classes, [(32, 2), (64, 2), (128, 2), (256, 4)], width, hidden)


def _plain_cnn(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    groups: Iterable[tuple[int, int]],
    width: int,
    hidden: int | None = None,
) -> keras.Model:
    """A plain CNN of groups of (channels, number of convolutions), each followed by a pooling."""
    inputs = x = keras.Input(input_shape, name="image")
    for index, (channels, convolutions) in enumerate(groups):
        group = f"stage_{index}" if index else "stem"
        for number in range(1, convolutions + 1):
            is_last = number == convolutions
            x = conv_bn_relu(
                x,
                width * channels,
                use_bias=True,  # no effect before batch normalization, but in the published code
                names=f"{group}_{{}}{number}",
                bn=f"{group}_preact" if is_last else None,
                relu=group if is_last else None,
                initializer=torch_uniform,
            )
        x = layers.MaxPooling2D(2, padding="same", name=f"{group}_max_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    if hidden is not None:
        x = layers.ReLU(name="hidden")(_dense(x, hidden, name="hidden_dense"))
    return keras.Model(inputs, _dense(x, num_classes, name="logits"), name=name)


def _dense(x: Any, units: int, *, name: str) -> Any:
    return layers.Dense(units, kernel_initializer=torch_uniform(x.shape[-1], units), name=name)(x)
