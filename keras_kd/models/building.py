"""Builds models by name, with checked arguments."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.models.digits import digits_student, digits_teacher
from keras_kd.models.mobilenet import mobilenetv2
from keras_kd.models.plain_cnn import plain_cnn_2, plain_cnn_4, plain_cnn_6, plain_cnn_8, plain_cnn_10
from keras_kd.models.resnet import resnet8, resnet8x4, resnet20, resnet32x4, resnet56
from keras_kd.models.shufflenet import shufflenetv1, shufflenetv2
from keras_kd.models.vgg import vgg8, vgg13
from keras_kd.models.wide_resnet import wrn_16_2, wrn_40_2
from keras_kd.serialization import look_up, make

_MODELS: dict[str, Callable[..., keras.Model]] = {
    "digits_student": digits_student,
    "digits_teacher": digits_teacher,
    "mobilenetv2": mobilenetv2,
    "plain_cnn_10": plain_cnn_10,
    "plain_cnn_2": plain_cnn_2,
    "plain_cnn_4": plain_cnn_4,
    "plain_cnn_6": plain_cnn_6,
    "plain_cnn_8": plain_cnn_8,
    "resnet20": resnet20,
    "resnet32x4": resnet32x4,
    "resnet56": resnet56,
    "resnet8": resnet8,
    "resnet8x4": resnet8x4,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "vgg13": vgg13,
    "vgg8": vgg8,
    "wrn_16_2": wrn_16_2,
    "wrn_40_2": wrn_40_2,
}


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> keras.Model:
    """A new, untrained reference model.

    >>> build("digits_student", input_shape=(8, 8, 1), num_classes=10).output_shape
    (None, 10)

    Args:
        name: one of `names()`.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: the number of logits, at least 2.
        settings: further arguments of the function with that name.

    Raises:
        ConfigurationError: an unknown name, settings that the model does not take, or not the shape of an image.
    """
    function = look_up("model", name, _MODELS)
    return make(
        "model",
        name,
        function,
        _checked_shape(input_shape),
        check_integer("num_classes", num_classes, at_least=2),
        **settings,
    )


def names() -> list[str]:
    """The names that `build` accepts."""
    return sorted(_MODELS)


def _checked_shape(input_shape: Any) -> tuple[int, int, int]:
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if len(shape) != 3 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ConfigurationError(
            explain(
                "Invalid 'input_shape'.",
                received=repr(input_shape),
                expected="(height, width, channels) in pixels, such as (32, 32, 3), without the batch axis",
            )
        )
    return tuple(int(size) for size in shape)
