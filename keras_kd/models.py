"""Reference models by name, in pairs of a teacher and a small student.

All end in logits (a linear Dense layer) after global pooling, so that they take any small image shape.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import keras
from keras import layers

from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import look_up, make

__all__ = ["build", "digits_student", "digits_teacher", "names"]

# Keras' own 0.99 needs hundreds of steps to forget its start; an epoch of the digits has 17.
_MOMENTUM = 0.9


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> keras.Model:
    """A new, untrained reference model.

    >>> build("digits_student", input_shape=(8, 8, 1), num_classes=10).output_shape
    (None, 10)

    Args:
        name: one of `names()`.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: the number of logits, at least 2.
        settings: what the function of that name takes besides.

    Raises:
        ConfigurationError: an unknown name, settings that the model does not take, a shape that is no image.
    """
    function = look_up("model", name, _MODELS)
    return make("model", name, function, _checked_shape(input_shape), _checked_classes(num_classes), **settings)


def names() -> list[str]:
    """The names that `build` knows."""
    return sorted(_MODELS)


def digits_teacher(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: tuple[int, ...] = (32, 64, 128),
    dropout: float = 0.3,
) -> keras.Model:
    """A small residual network: one block a width, each but the first at half the size of the one before.

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

    Each is convolution, batch normalisation, ReLU, which TFLite fuses into one operator.

    Returns:
        A model `[batch, *input_shape] -> [batch, num_classes]` logits.
    """
    inputs = x = keras.Input(input_shape, name="image")
    for number, width in enumerate(widths, start=1):
        x = _conv_bn_relu(x, width, strides=2 if number == 2 else 1, name=f"block_{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="digits_student")


def _residual_block(x: Any, width: int, strides: int, dropout: float, *, name: str) -> Any:
    """relu(x + F(x)); x goes through a 1x1 convolution where its shape changes."""
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


def _checked_shape(input_shape: Any) -> tuple[int, int, int]:
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if len(shape) != 3 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ConfigurationError(
            explain(
                "'input_shape' is no image shape.",
                received=repr(input_shape),
                expected="(height, width, channels) in pixels, such as (32, 32, 3), without the batch axis",
            )
        )
    return tuple(int(size) for size in shape)


def _checked_classes(num_classes: Any) -> int:
    if not isinstance(num_classes, Integral) or isinstance(num_classes, bool) or num_classes < 2:
        raise ConfigurationError(
            explain(
                "'num_classes' is not usable.",
                received=repr(num_classes),
                expected="a whole number, at least 2",
            )
        )
    return int(num_classes)


_MODELS: dict[str, Callable[..., keras.Model]] = {
    "digits_student": digits_student,
    "digits_teacher": digits_teacher,
}
