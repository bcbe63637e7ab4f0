"""Model inputs as pixels: for a plot, and as a PNG for a page."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain

MAX_SIDE = 128  # pixels; larger images are reduced, so that a page of many stays small
_CHANNELS = (1, 3)


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether an example of this shape is `[height, width, channels]` in grayscale or color.

    >>> is_image((8, 8, 1)), is_image((32, 32, 3)), is_image((20,)), is_image((49, 40, 7))
    (True, True, False, False)
    """
    return len(shape) == 3 and shape[-1] in _CHANNELS and 0 not in shape


def shown_range(images: np.ndarray, value_range: tuple[float, float]) -> tuple[float, float]:
    """The values drawn as black and white: `value_range`, or the lowest and highest of all images if any is outside.

    Standardized images (minus a mean, divided by a standard deviation) are outside, and their mean is not known. One
    range for all images keeps them comparable.

    >>> shown_range(np.array([0.2, 0.8]), (0.0, 1.0)), shown_range(np.array([-1.5, 2.0]), (0.0, 1.0))
    ((0.0, 1.0), (-1.5, 2.0))
    """
    lowest, highest = float(images.min()), float(images.max())
    slack = 1e-6 * (value_range[1] - value_range[0])  # of a division in float32
    is_inside = value_range[0] - slack <= lowest and highest <= value_range[1] + slack
    return value_range if is_inside else (lowest, highest)


def to_pixels(images: np.ndarray, shown: tuple[float, float]) -> np.ndarray:
    """Model inputs of any shape as uint8: the first value of `shown` becomes 0, the second 255.

    >>> to_pixels(np.array([-1.0, 0.0, 1.0]), (-1.0, 1.0)).tolist()
    [0, 128, 255]
    """
    low, high = shown
    width = high - low if high > low else 1.0
    shares = (np.asarray(images, np.float64) - low) / width
    return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def as_png(pixels: np.ndarray, max_side: int = MAX_SIDE) -> str:
    """An image as a PNG in base64; one with a longer side is reduced by a whole factor, averaging blocks.

    Args:
        pixels: uint8 `[height, width, 1]` or `[height, width, 3]`.
        max_side: the limit of the longer side, in pixels.

    Raises:
        ConfigurationError: another dtype or shape.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or not is_image(pixels.shape):
        received = f"{pixels.dtype} of shape {pixels.shape}"
        expected = "uint8 of shape (height, width, 1) or (height, width, 3)"
        raise ConfigurationError(explain("These are not the pixels of an image.", received=received, expected=expected))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = math.ceil(max(image.size) / max_side)
    buffer = io.BytesIO()
    (image.reduce(factor) if factor > 1 else image).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def normalized(image: Any) -> np.ndarray:
    """An image as `[height, width]` or `[height, width, 3]` floats from 0 to 1, whatever its original range.

    An example that is not an image keeps its shape.

    Args:
        image: an array, nested lists, or a PNG in base64.
    """
    if isinstance(image, str):
        from PIL import Image

        data = image.partition("base64,")[2] or image
        image = Image.open(io.BytesIO(base64.b64decode(data)))
    pixels = np.asarray(image, np.float64)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    low, high = pixels.min(), pixels.max()
    return (pixels - low) / (high - low if high > low else 1.0)
