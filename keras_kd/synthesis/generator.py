"""A convolutional generator of images."""

from __future__ import annotations

import keras
from keras import layers

from keras_kd.errors import ConfigurationError, check_integer, explain

LATENT_SIZE = 100


def generator(
    image_shape: tuple[int, int, int],
    *,
    latent_size: int = LATENT_SIZE,
    width: int = 128,
    value_range: tuple[float, float] | None = None,
    is_bounded: bool = True,
) -> keras.Model:
    """A generator: a dense layer, and two times an upsampling and a 3x3 convolution.

    Sources: the generators of the published codes of Chen et al., "Data-Free Learning of Student Networks", 2019, and
    Micaelli & Storkey, "Zero-shot Knowledge Transfer via Adversarial Belief Matching", 2019; they differ in their end.

    Args:
        image_shape: `(height, width, channels)`; height and width are multiples of 4.
        latent_size: of the noise.
        width: the channels before the last convolutions; the second half of the layers has half of it.
        value_range: the smallest and the largest value of an image. None is for inputs that are normalized to mean 0
            and standard deviation 1, as published, and ends with a batch normalization.
        is_bounded: without a value range, whether that normalization follows a tanh and has no scale and center (DAFL),
            or follows the convolution and has both (ZSKT).

    Raises:
        ConfigurationError: another size.

    >>> generator((8, 8, 1)).output_shape
    (None, 8, 8, 1)
    """
    if len(image_shape) != 3 or None in image_shape or image_shape[0] % 4 or image_shape[1] % 4:
        raise ConfigurationError(
            explain(
                "The generator does not make images of this shape.",
                received=f"{tuple(image_shape)}",
                expected="(height, width, channels), with a height and width that are multiples of 4",
                fix="Pass a generator of your own, a keras.Model from noise to images.",
            )
        )
    height, columns, channels = image_shape
    inputs = keras.Input((check_integer("latent_size", latent_size, at_least=1),))
    x = layers.Dense(height // 4 * (columns // 4) * width)(inputs)
    x = layers.BatchNormalization()(layers.Reshape((height // 4, columns // 4, width))(x))
    for filters in (width, width // 2):
        x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 3, padding="same", dtype="float32")(x)
    if value_range is None:
        x = keras.ops.tanh(x) if is_bounded else x
        x = layers.BatchNormalization(scale=not is_bounded, center=not is_bounded, dtype="float32")(x)
    else:
        low, high = value_range
        x = layers.Rescaling(high - low, offset=low, dtype="float32")(layers.Activation("sigmoid", dtype="float32")(x))
    return keras.Model(inputs, x, name="generator")
