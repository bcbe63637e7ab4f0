"""The soft targets of a few examples at several temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.evaluation.plots.drawing import as_svg, in_style, new_figure, shortened
from keras_kd.evaluation.plots.pixels import normalized
from keras_kd.svg import BLUE, MUTED, ORANGE
from keras_kd.teachers.calibration import log_probabilities

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BARS = 6
MAX_EXAMPLES = 4


def softened(logits: Any, temperature: float) -> np.ndarray:
    """`softmax(logits / temperature)` over the last axis, in float64: soft targets at a temperature.

    >>> softened([2.0, 0.0], 1).round(3).tolist(), softened([2.0, 0.0], 20).round(3).tolist()
    ([0.881, 0.119], [0.525, 0.475])
    """
    if check_number("temperature", temperature) <= 0:
        raise ConfigurationError(explain("Invalid 'temperature'.", received=temperature, expected="a number > 0"))
    return np.exp(log_probabilities(logits, temperature))


def soft_targets(
    images: Sequence[Any],
    logits: Any,
    temperatures: Sequence[float],
    class_names: Sequence[str],
    *,
    labels: Sequence[int] | None = None,
) -> str:
    """The soft targets of a few examples at several temperatures: bars of `softmax(logits / T)`.

    `images` are `[height, width]` or `[height, width, channels]` arrays, nested lists, or base64 PNGs. An example
    `[features]` is drawn as a curve; for any other, only its class is shown.
    `logits` is `[examples, classes]`. If `labels` are given, the bar of the true class has its own color.
    At most `MAX_EXAMPLES` examples are drawn, each with its `MAX_BARS` most probable classes.
    """
    logits = np.asarray(logits, np.float64)
    if logits.shape != (len(images), len(class_names)):
        raise ConfigurationError(
            explain(
                "The shape of the logits must match the images and the class names.",
                received=f"logits {logits.shape}, {len(images)} images, {len(class_names)} class names",
                expected="logits [images, classes]",
            )
        )
    count = min(len(images), MAX_EXAMPLES)
    with in_style():
        shown = min(len(class_names), MAX_BARS)
        figure = new_figure(0.5 + count * max(1.0, 0.19 * shown + 0.3))
        grid = figure.subplots(
            count, 1 + len(temperatures), squeeze=False, width_ratios=[0.9] + [1] * len(temperatures)
        )
        for row in range(count):
            label = None if labels is None else labels[row]
            _draw_image(grid[row, 0], images[row], None if label is None else str(class_names[label]))
            _draw_targets(grid[row, 1:], logits[row], temperatures, class_names, label)
        for axes, temperature in zip(grid[0, 1:], temperatures, strict=True):
            axes.set_title(f"T = {temperature:g}")
        description = f"Teacher probabilities of {count} examples at temperatures {list(temperatures)}."
        return as_svg(figure, "soft-targets", description)


def _draw_image(axes: Axes, image: Any, caption: str | None) -> None:
    pixels = normalized(image)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4)):
        axes.imshow(pixels, cmap="gray", interpolation="none", vmin=0, vmax=1)
        axes.set_anchor("N")
    elif pixels.ndim == 1:
        axes.plot(pixels, color=MUTED, linewidth=1, marker="o" if len(pixels) == 1 else None)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if caption is not None:
        axes.set_xlabel(shortened(caption, 10), color=ORANGE, fontsize=9)


def _draw_targets(
    panels: Sequence[Axes],
    logits: np.ndarray,
    temperatures: Sequence[float],
    class_names: Sequence[str],
    label: int | None,
) -> None:
    classes = np.argsort(-logits, kind="stable")[:MAX_BARS]
    colors = [ORANGE if index == label else BLUE for index in classes]
    for axes, temperature in zip(panels, temperatures, strict=True):
        chances = softened(logits, temperature)[classes]
        axes.barh(range(len(classes)), chances, color=colors, height=0.78)
        for place, chance in enumerate(chances):
            axes.text(chance + 0.03, place, f"{100 * chance:.1f}", va="center", fontsize=8.5, color=MUTED)
        axes.set(xlim=(0, 1.35), ylim=(len(classes) - 0.4, -0.6), xticks=[])
        names = [shortened(class_names[index], 14) for index in classes] if axes is panels[0] else []
        axes.set_yticks(range(len(names)), names, fontsize=9.5)
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
