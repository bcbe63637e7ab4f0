import base64
import io

import numpy as np
import pytest
from PIL import Image

from keras_kd.data.sources.records import Scaling
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.plots.pixels import as_png, is_image, shown_range, to_pixels


def _read(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-123.7, 131.3), (0.1, 0.3)])
def test_every_stored_pixel_comes_back(channels, value_range):
    stored = np.arange(256, dtype=np.uint8).repeat(channels).reshape(16, 16, channels)
    scaled = Scaling.to_range(255, value_range)(stored)
    shown = shown_range(scaled, value_range)
    assert shown == value_range
    np.testing.assert_array_equal(_read(as_png(to_pixels(scaled, shown))).reshape(stored.shape), stored)


def test_sixteen_shades_are_spread_over_all():
    stored = np.arange(17, dtype=np.uint8)
    scaled = Scaling.to_range(16, (-1.0, 1.0))(stored)
    assert to_pixels(scaled, (-1.0, 1.0)).tolist() == [round(255 * shade / 16) for shade in range(17)]


def test_standardized_images_share_one_range():
    pixels = np.arange(256, dtype=np.float32).reshape(4, 8, 8, 1)
    standardized = (pixels - 127) / 60
    shown = shown_range(standardized, (0.0, 1.0))
    np.testing.assert_array_equal(to_pixels(standardized, shown), pixels)


def test_a_constant_image_is_drawn_too():
    flat = np.full((4, 4, 1), 7.0)
    assert shown_range(flat, (0.0, 1.0)) == (7.0, 7.0)
    assert set(to_pixels(flat, (7.0, 7.0)).ravel().tolist()) == {0}


def test_a_large_image_is_averaged_over_blocks():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    small = _read(as_png(pixels))  # a factor of 3
    assert small.shape == (100, 67, 3)
    expected = pixels[:300, :198].reshape(100, 3, 66, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small[:, :66], expected, atol=1)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros((4, 4, 1)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_not_an_image_is_refused(pixels):
    with pytest.raises(ConfigurationError, match="not the pixels of an image. Received.*Expected"):
        as_png(pixels)


@pytest.mark.parametrize("shape", [(20,), (7, 7), (49, 40, 7), (4, 4, 4), (2, 4, 4, 3), (0, 4, 1)])
def test_other_examples_are_not_images(shape):
    assert not is_image(shape)
