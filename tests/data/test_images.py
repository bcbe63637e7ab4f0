"""Image augmentations against loops over single pixels, `np.pad` and Keras' resize."""

import colorsys

import keras
import numpy as np
import pytest
from scipy import stats

from keras_kd.data.draws import Draws
from keras_kd.data.images import (
    ColorJitter,
    Cutout,
    Flip,
    PadAndCrop,
    ResizedCrop,
    crop_and_resize,
    crop_and_resize_labels,
)

LIKELY = 1e-3


def images(count=30, shape=(9, 12, 3)):
    return np.random.default_rng(0).random((count, *shape), "float32"), Draws(1, np.arange(count), 2)


def test_pad_and_crop_is_a_slice_of_the_padded_image():
    x, draws = images(200)
    cropped = PadAndCrop(2, fill=0.25)(x, draws)
    tops, lefts = draws.integers("top", 5), draws.integers("left", 5)
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        padded = np.pad(x[row], ((2, 2), (2, 2), (0, 0)), constant_values=0.25)
        np.testing.assert_array_equal(cropped[row], padded[top : top + 9, left : left + 12])
    assert len({*zip(tops.tolist(), lefts.tolist(), strict=True)}) == 25


def test_pad_and_crop_takes_every_place_as_often():
    x = np.zeros((5000, 5, 5, 1), "float32")
    x[:, 2, 2] = 1
    places = PadAndCrop(2)(x, Draws(0, np.arange(5000), 0)).reshape(5000, 25).argmax(axis=1)
    assert stats.chisquare(np.bincount(places, minlength=25)).pvalue > LIKELY


def test_flip_exchanges_left_and_right():
    x, _ = images()
    draws = Draws(0, np.arange(30), 0)
    np.testing.assert_array_equal(Flip(1.0)(x, draws), x[:, :, ::-1])
    np.testing.assert_array_equal(Flip(0.0)(x, draws), x)
    flipped = Flip()(x, draws)
    assert all((a == b).all() or (a == b[:, ::-1]).all() for a, b in zip(flipped, x, strict=True))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_flip_has_its_rate(probability):
    x = np.tile(np.float32([[[[0.0], [1.0]]]]), (4000, 1, 1, 1))
    rate = Flip(probability)(x, Draws(0, np.arange(4000), 0))[:, 0, 0, 0].mean()
    assert abs(rate - probability) < 4 * np.sqrt(probability * (1 - probability) / 4000)


# The resized crop.


def test_the_resize_is_that_of_keras_on_the_box():
    x, _ = images(60)
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(1, 10, 60), rng.integers(1, 13, 60)
    tops, lefts = rng.integers(0, 10 - heights), rng.integers(0, 13 - widths)
    resized = crop_and_resize(x, tops, lefts, heights, widths)
    for row, (top, left, height, width) in enumerate(zip(tops, lefts, heights, widths, strict=True)):
        box = x[row, top : top + height, left : left + width]
        expected = keras.ops.image.resize(box, (9, 12), interpolation="bilinear", antialias=False)
        np.testing.assert_allclose(resized[row], expected, atol=1e-6)


def test_the_whole_image_is_left_as_it_is():
    x, draws = images()
    boxes = ResizedCrop(scale=(1.0, 1.0), ratio=(4 / 3, 4 / 3)).boxes(draws, 9, 12)
    assert {*zip(*(side.tolist() for side in boxes), strict=True)} == {(0, 0, 9, 12)}
    np.testing.assert_array_equal(crop_and_resize(x, *boxes), x)


def test_labels_are_resized_to_the_nearest_pixel():
    """Against the distances between the centers of pixels, in float64; the later one of two that are as near."""
    rng = np.random.default_rng(1)
    masks = rng.integers(-1, 9, (60, 9, 12)).astype("int32")
    heights, widths = rng.integers(1, 10, 60), rng.integers(1, 13, 60)
    tops, lefts = rng.integers(0, 10 - heights), rng.integers(0, 13 - widths)
    resized = crop_and_resize_labels(masks, tops, lefts, heights, widths)
    assert resized.dtype == np.int32

    def nearest(start, size, length):
        centers = np.arange(size) + 0.5
        wanted = (np.arange(length) + 0.5) * size / length
        distances = np.abs(wanted[:, None] - centers[None, ::-1]).round(9)
        return start + size - 1 - distances.argmin(axis=1)

    for row, (top, left, height, width) in enumerate(zip(tops, lefts, heights, widths, strict=True)):
        expected = masks[row][np.ix_(nearest(top, height, 9), nearest(left, width, 12))]
        np.testing.assert_array_equal(resized[row], expected)


def box_of_one(draws, row, scale, ratio, height, width):
    """The published loop over ten tries, for one example."""
    area, log_ratio = draws.uniform("area", (10,))[row], draws.uniform("ratio", (10,))[row]
    for one_area, one_ratio in zip(area, log_ratio, strict=True):
        target = height * width * (scale[0] + (scale[1] - scale[0]) * one_area)
        aspect = np.exp(np.log(ratio[0]) + (np.log(ratio[1]) - np.log(ratio[0])) * one_ratio)
        w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(draws.uniform("top")[row] * (height - h + 1))
            left = int(draws.uniform("left")[row] * (width - w + 1))
            return top, left, h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (40, 9), (9, 40), (1, 7)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0), (1.0, 1.0)])
def test_the_box_is_that_of_ten_tries(size, scale):
    draws = Draws(0, np.arange(150), 0)
    boxes = ResizedCrop(scale=scale).boxes(draws, *size)
    expected = [box_of_one(draws, row, scale, (3 / 4, 4 / 3), *size) for row in range(150)]
    np.testing.assert_array_equal(np.stack(boxes, axis=1), expected)


def test_boxes_are_of_all_sizes_shapes_and_places_within_the_image():
    top, left, height, width = ResizedCrop().boxes(Draws(0, np.arange(3000), 0), 32, 32)
    assert min(top.min(), left.min()) == 0 and max((top + height).max(), (left + width).max()) == 32
    area, ratio = height * width / 32**2, width / height
    assert area.min() < 0.1 and area.max() > 0.95
    assert 0.7 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.43 and abs(np.log(ratio).mean()) < 0.02


# Color.


def jittered(image, brightness, contrast, saturation):
    """One image in 0..1, pixel by pixel in float64."""
    weights = [0.299, 0.587, 0.114] if image.shape[-1] == 3 else [1.0]

    def gray(pixel):
        return sum(w * v for w, v in zip(weights, pixel, strict=True))

    def each(function, image):
        return np.clip([[[function(v, pixel) for v in pixel] for pixel in line] for line in image], 0, 1)

    image = each(lambda v, _: v * brightness, image.astype("float64"))
    mean = np.mean([gray(pixel) for line in image for pixel in line])
    image = each(lambda v, _: mean + contrast * (v - mean), image)
    return each(lambda v, pixel: gray(pixel) + saturation * (v - gray(pixel)), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_color_is_changed_as_in_single_pixels(channels, low, high):
    x, draws = images(12, (5, 4, channels))
    result = ColorJitter(0.4, 1.5, 0.8, low=low, high=high)(low + x * (high - low), draws)
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.0, 2.5), "saturation": (0.2, 1.8)}
    factors = [start + (end - start) * draws.uniform(name) for name, (start, end) in ranges.items()]
    for row, triple in enumerate(zip(*factors, strict=True)):
        expected = low + jittered(x[row], *triple) * (high - low)
        np.testing.assert_allclose(result[row], expected, atol=1e-5 * (high - low))


def test_color_jitter_is_clipped_and_applied_at_its_rate():
    x, _ = images(400, (4, 4, 3))
    result = ColorJitter(2.0, 2.0, 2.0, probability=0.25)(x, Draws(0, np.arange(400), 0))
    assert result.min() >= 0 and result.max() <= 1
    rate = (result != x).any(axis=(1, 2, 3)).mean()
    assert abs(rate - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_without_strength_nothing_changes_and_saturation_keeps_the_hue():
    x, draws = images()
    np.testing.assert_allclose(ColorJitter(0.0, 0.0, 0.0)(x, draws), x, atol=1e-6)
    pale = ColorJitter(0.0, 0.0, 0.5)(x * 0.4 + 0.3, draws)
    for before, after in zip((x * 0.4 + 0.3).reshape(-1, 3)[::17], pale.reshape(-1, 3)[::17], strict=True):
        turn = colorsys.rgb_to_hsv(*map(float, before))[0] - colorsys.rgb_to_hsv(*map(float, after))[0]
        assert abs((turn + 0.5) % 1 - 0.5) < 1e-4


# Cutout.


@pytest.mark.parametrize("pixels", [1, 4, 5, 40])
def test_cutout_fills_a_square_around_a_pixel(pixels):
    x, draws = images(100)
    result = Cutout(pixels, fill=-1.0)(x, draws)
    for row, (center_row, center_column) in enumerate(
        zip(draws.integers("row", 9), draws.integers("column", 12), strict=True)
    ):
        expected = x[row].copy()
        for r in range(9):
            for c in range(12):
                near = [p - q + pixels // 2 for p, q in ((r, center_row), (c, center_column))]
                if all(0 <= distance < pixels for distance in near):
                    expected[r, c] = -1.0
        np.testing.assert_array_equal(result[row], expected)


def test_cutout_meets_every_pixel_and_its_rate():
    x, draws = np.ones((2000, 3, 3, 1), "float32"), Draws(0, np.arange(2000), 0)
    counts = (Cutout(1)(x, draws) == 0).sum(axis=0).ravel()
    assert counts.sum() == 2000 and stats.chisquare(counts).pvalue > LIKELY
    rate = (Cutout(1, probability=0.3)(x, draws) == 0).sum() / 2000
    assert abs(rate - 0.3) < 4 * np.sqrt(0.21 / 2000)
