"""Augmentations of images `[H, W, C]`, for any range of values unless stated otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from keras_kd.data.augmentation import Augmentation, check_shape, registry
from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.tasks.labels import UNLABELED

_NUM_TRIES = 10  # to draw a crop that lies within the image
_GRAY = (0.299, 0.587, 0.114)  # luma weights of red, green and blue (ITU-R BT.601)


@registry.register
@dataclasses.dataclass(frozen=True)
class PadAndCrop(Augmentation):
    """Pads each side and crops the original size at a random position.

    Args:
        pixels: the padding on each side, in pixels.
        fill: the value of the padding.
    """

    num_grid_axes: ClassVar[int | None] = 2
    pixels: int = 4
    fill: float = 0.0

    def __post_init__(self):
        self._set(pixels=check_integer("pixels", self.pixels, at_least=0), fill=check_number("fill", self.fill))

    def __call__(self, x, draws):
        height, width = x.shape[1:3]
        borders = [(self.pixels * size, self.pixels * size) for size in self.cell]
        padded = np.pad(x, ((0, 0), *borders, (0, 0)), constant_values=self.fill)
        cropped = np.empty_like(x)
        tops, lefts = (
            (draws.integers(name, 2 * self.pixels + 1) * size).tolist()
            for name, size in zip(("top", "left"), self.cell, strict=True)
        )
        for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            cropped[row] = padded[row, top : top + height, left : left + width]
        return cropped

    def move_labels(self, y, draws):
        return dataclasses.replace(self, fill=UNLABELED).with_cell(self.cell)(y[..., None], draws)[..., 0]

    def check(self, shape):
        fits = len(shape) == 3 and min(shape[:2]) > self.pixels
        check_shape(self, shape, fits, f"images [H, W, C] with more than {self.pixels} pixels a side")


@registry.register
@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Flips images horizontally.

    Args:
        probability: the probability of flipping an example.
    """

    moves_labels_of_any_size: ClassVar[bool] = True
    num_grid_axes: ClassVar[int | None] = 0
    probability: float = 0.5

    def __post_init__(self):
        self._set(probability=check_number("probability", self.probability, at_least=0.0, at_most=1.0))

    def __call__(self, x, draws):
        flipped = x.copy()
        rows = np.flatnonzero(draws.uniform("applied") < self.probability)
        flipped[rows] = x[rows, :, ::-1]
        return flipped

    def move_labels(self, y, draws):
        return self(y, draws)

    def check(self, shape):
        check_image(self, shape)


@registry.register
@dataclasses.dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Crops a box of random size, shape and position, and resizes it to the original size (bilinear): Inception crop.

    A box is redrawn until it lies within the image, at most 10 times; after that, the largest centered box with an
    aspect ratio within `ratio` is used. Masks get the same box, resized to the nearest pixel.

    Source: Szegedy et al., "Going deeper with convolutions", 2015.

    Args:
        scale: the smallest and largest share of the image's area.
        ratio: the smallest and largest width / height; its logarithm is uniformly distributed.
    """

    num_grid_axes: ClassVar[int | None] = 2
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self):
        self._set(scale=_checked_range("scale", self.scale, at_most=1.0), ratio=_checked_range("ratio", self.ratio))

    def __call__(self, x, draws):
        return crop_and_resize(x, *self._boxes(draws, x.shape))

    def move_labels(self, y, draws):
        return crop_and_resize_labels(y, *self._boxes(draws, y.shape))

    def check(self, shape):
        check_image(self, shape)

    def _boxes(self, draws: Draws, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """`boxes` on the grid, in pixels of inputs of this shape."""
        (down, across), (height, width) = self.cell, shape[1:3]
        cells = self.boxes(draws, height // down, width // across)
        return tuple(values * size for values, size in zip(cells, (down, across, down, across), strict=True))

    def boxes(self, draws: Draws, height: int, width: int) -> tuple[np.ndarray, ...]:
        """`(top, left, box_height, box_width)` in pixels, each int64 `[b]`."""
        low, high = self.scale
        area = height * width * (low + (high - low) * draws.uniform("area", (_NUM_TRIES,)))
        ratio = _log_uniform(draws.uniform("ratio", (_NUM_TRIES,)), *self.ratio)
        heights, widths = (np.rint(np.sqrt(side)).astype(np.int64) for side in (area / ratio, area * ratio))
        fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
        first = np.arange(len(draws)), fits.argmax(axis=1)
        middle_height, middle_width = self._middle(height, width)
        found = fits[first]
        box_height = np.where(found, heights[first], middle_height)
        box_width = np.where(found, widths[first], middle_width)
        top = np.where(found, draws.integers("top", np.maximum(height - box_height, 0) + 1), (height - box_height) // 2)
        left = np.where(found, draws.integers("left", np.maximum(width - box_width, 0) + 1), (width - box_width) // 2)
        return top, left, box_height, box_width

    def _middle(self, height: int, width: int) -> tuple[int, int]:
        """The size of the largest box with a ratio within the range; the whole image if its ratio is."""
        low, high = self.ratio
        if width / height < low:
            return max(1, round(width / low)), width
        return height, min(width, max(1, round(height * high)))


def crop_and_resize(
    x: np.ndarray, top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Crops boxes from a batch of images and resizes them to the image size: bilinear, between pixel centers.

    Args:
        x: float32 `[b, H, W, C]`.
        top, left, height, width: the boxes in pixels, int64 `[b]`, each within its image.

    Returns:
        float32 `[b, H, W, C]`.
    """
    example = np.arange(len(x))[:, None]
    above, below, share = _neighbors(top, height, x.shape[1])
    rows = _between(x[example, above], x[example, below], share[:, :, None, None])
    before, after, share = _neighbors(left, width, x.shape[2])
    columns = rows.swapaxes(1, 2)
    resized = _between(columns[example, before], columns[example, after], share[:, :, None, None])
    return np.ascontiguousarray(resized.swapaxes(1, 2))


def crop_and_resize_labels(
    y: np.ndarray, top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Crops boxes from a batch of masks and resizes them to the mask size: each pixel takes the nearest label.

    Args:
        y: class ids `[b, H, W]`.
        top, left, height, width: the boxes in pixels, int64 `[b]`, each within its mask.

    Returns:
        `[b, H, W]` in the dtype of `y`.
    """
    rows, columns = _nearest(top, height, y.shape[1]), _nearest(left, width, y.shape[2])
    return y[np.arange(len(y))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _nearest(start: np.ndarray, size: np.ndarray, length: int) -> np.ndarray:
    """The pixel of a box whose center is nearest to each of `length` positions, int64 `[b, length]`; ties go up."""
    return start[:, None] + (2 * np.arange(length) + 1) * size[:, None] // (2 * length)


def _neighbors(start: np.ndarray, size: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels adjacent to each of `length` positions in a box, and the weight of the second, `[b, length]`."""
    last = size[:, None] - 1
    place = np.clip((np.arange(length) + 0.5) * (size[:, None] / length) - 0.5, 0, last)
    first = np.floor(place).astype(np.int64)
    second = np.minimum(first + 1, last)
    return start[:, None] + first, start[:, None] + second, (place - first).astype(np.float32)


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share


def _log_uniform(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Log-uniform between `low` and `high`; uses `math` because NumPy's `exp` rounds differently across processors."""
    start, length = math.log(low), math.log(high) - math.log(low)
    values = [math.exp(start + length * value) for value in uniform.ravel().tolist()]
    return np.array(values).reshape(uniform.shape)


@registry.register
@dataclasses.dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Changes brightness, then contrast, then saturation, each by a random factor; gray images keep their saturation.

    For strength s, the factor is drawn from `max(0, 1 - s)` to `1 + s`. Brightness scales the value above `low`,
    contrast the distance from the image's mean gray, and saturation the distance from the pixel's gray. After each
    change, values are clipped to the range.

    Args:
        brightness, contrast, saturation: the strengths; 0 leaves a property unchanged.
        low, high: the range of the values, black and white.
        probability: the probability of changing an example.
    """

    moves_positions: ClassVar[bool] = False
    num_grid_axes: ClassVar[int | None] = 0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    low: float = 0.0
    high: float = 1.0
    probability: float = 1.0

    def __post_init__(self):
        strengths = ("brightness", "contrast", "saturation")
        self._set(**{name: check_number(name, getattr(self, name), at_least=0.0) for name in strengths})
        self._set(low=check_number("low", self.low), high=check_number("high", self.high))
        self._set(probability=check_number("probability", self.probability, at_least=0.0, at_most=1.0))
        if self.low >= self.high:
            received = f"low={self.low:g}, high={self.high:g}"
            raise ConfigurationError(explain("The range is empty.", received=received, expected="low < high"))

    def __call__(self, x, draws):
        low, size = np.float32(self.low), np.float32(self.high - self.low)
        value = np.clip((x - low) / size, 0, 1)
        value = np.clip(value * self._factor(draws, "brightness"), 0, 1)
        mean = _gray(value).reshape(len(x), math.prod(x.shape[1:3])).mean(axis=1)[:, None, None, None]
        value = np.clip(mean + (value - mean) * self._factor(draws, "contrast"), 0, 1)
        gray = _gray(value)
        value = np.clip(gray + (value - gray) * self._factor(draws, "saturation"), 0, 1)
        applied = draws.uniform("applied") < self.probability
        return np.where(applied[:, None, None, None], low + value * size, x)

    def _factor(self, draws: Draws, name: str) -> np.ndarray:
        strength = getattr(self, name)
        low, high = max(0.0, 1 - strength), 1 + strength
        return (low + (high - low) * draws.uniform(name)).astype(np.float32)[:, None, None, None]

    def check(self, shape):
        check_shape(self, shape, len(shape) == 3 and shape[2] in (1, 3), "images [H, W, C] of 1 or 3 channels")


def _gray(x: np.ndarray) -> np.ndarray:
    """`[b, H, W, 1]`."""
    if x.shape[-1] == 1:
        return x
    red, green, blue = (np.float32(share) * x[..., channel] for channel, share in enumerate(_GRAY))
    return (red + green + blue)[..., None]


@registry.register
@dataclasses.dataclass(frozen=True)
class Cutout(Augmentation):
    """Fills a square centered at a random pixel; as in the paper, the part outside the image is clipped.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Args:
        pixels: the side length of the square.
        fill: its value. The paper uses 0 in normalized images, the mean color.
        probability: the probability of changing an example.
    """

    moves_positions: ClassVar[bool] = False
    num_grid_axes: ClassVar[int | None] = 2
    pixels: int = 8
    fill: float = 0.0
    probability: float = 1.0

    def __post_init__(self):
        self._set(pixels=check_integer("pixels", self.pixels, at_least=1), fill=check_number("fill", self.fill))
        self._set(probability=check_number("probability", self.probability, at_least=0.0, at_most=1.0))

    def __call__(self, x, draws):
        sides = np.where(draws.uniform("applied") < self.probability, self.pixels, 0)
        inside = in_random_box(draws, sides, sides, *x.shape[1:3], cell=self.cell)
        return np.where(inside, np.float32(self.fill), x)

    def check(self, shape):
        check_image(self, shape)


def in_random_box(
    draws: Draws,
    box_heights: np.ndarray,
    box_widths: np.ndarray,
    height: int,
    width: int,
    cell: tuple[int, int] = (1, 1),
) -> np.ndarray:
    """Masks of the pixels in a box centered at a random pixel, bool `[b, H, W, 1]`.

    Args:
        draws: uses the draws `row` and `column`.
        box_heights, box_widths: in grid cells, int64 `[b]`; the part outside the image is clipped.
        height, width: the image size in pixels.
        cell: the size of a grid cell in pixels, `(height, width)`.
    """
    height, width = height // cell[0], width // cell[1]
    rows = _in_span(draws.integers("row", height) - box_heights // 2, box_heights, height).repeat(cell[0], axis=1)
    columns = _in_span(draws.integers("column", width) - box_widths // 2, box_widths, width).repeat(cell[1], axis=1)
    return rows[:, :, None, None] & columns[:, None, :, None]


def _in_span(starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """bool `[b, length]`."""
    places = np.arange(length)
    return (places >= starts[:, None]) & (places < (starts + sizes)[:, None])


def check_image(owner: Augmentation, shape: tuple[int, ...]) -> None:
    """Raises `ConfigurationError` if examples are not images."""
    check_shape(owner, shape, len(shape) == 3 and min(shape) > 0, "images [H, W, C]")


def _checked_range(name: str, value: Any, at_most: float = math.inf) -> tuple[float, float]:
    """Returns a pair of positive numbers, the lower one first, as floats; a list becomes a tuple."""
    is_pair = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, Real) for v in value)
    if not is_pair or not 0 < value[0] <= value[1] <= at_most or not math.isfinite(value[1]):
        high = f" <= {at_most:g}" if math.isfinite(at_most) else ""
        raise ConfigurationError(
            explain(
                f"Invalid {name!r}.",
                received=repr(value),
                expected=f"two numbers, 0 < lowest <= highest{high}",
            )
        )
    return float(value[0]), float(value[1])
