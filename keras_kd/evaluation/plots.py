"""The pictures of a report, as SVG strings. matplotlib is imported inside functions."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.evaluation.drawing import as_svg, decorate, in_style, new_figure
from keras_kd.evaluation.reliability import reliability as reliability
from keras_kd.quantities import human_bytes
from keras_kd.svg import BLUE, CARD, INK, MUTED, ORANGE, SERIES
from keras_kd.tasks import Measure
from keras_kd.teachers.calibration import log_probabilities

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_kd.compression import SensitivityTable

MAX_GRID_CLASSES = 20  # with more classes, a confusion matrix is a gray square
MAX_CONFUSIONS = 15
MAX_BARS = 6
MAX_EXAMPLES = 4


class Point(NamedTuple):
    """A model in `size_accuracy`; `quality` is its value of the task's headline measure."""

    id: str
    title: str
    num_bytes: int | None
    quality: float


def softened(logits: Any, temperature: float) -> np.ndarray:
    """`softmax(logits / temperature)` over the last axis, in float64: soft targets at a temperature.

    >>> softened([2.0, 0.0], 1).round(3).tolist(), softened([2.0, 0.0], 20).round(3).tolist()
    ([0.881, 0.119], [0.525, 0.475])
    """
    if check_number("temperature", temperature) <= 0:
        raise ConfigurationError(explain("Invalid 'temperature'.", received=temperature, expected="a number > 0"))
    return np.exp(log_probabilities(logits, temperature))


def check_confusion(matrix: Any, class_names: Sequence[str]) -> np.ndarray:
    """Returns the counts as an array; raises `ConfigurationError` if their shape does not fit the classes."""
    counts = np.asarray(matrix)
    if counts.shape != (len(class_names), len(class_names)):
        received = f"shape {counts.shape} for {len(class_names)} class names"
        expected = f"shape {(len(class_names),) * 2}"
        raise ConfigurationError(
            explain(
                "The confusion matrix must have one row and one column per class.", received=received, expected=expected
            )
        )
    return counts


def training_curves(histories: Mapping[str, Mapping[str, Sequence[float]]], *, curve: str = "accuracy") -> str:
    """A metric and the loss by epoch, one color per run; validation is solid, training dashed.

    `histories` maps the name of a run to its `model.fit(...).history`.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    with in_style():
        figure = new_figure(5.0)
        metric, loss = figure.subplots(2, 1, sharex=True)
        is_accuracy, name = curve == "accuracy", curve.replace("_", " ")
        colors = [SERIES[index % len(SERIES)] for index in range(len(histories))]
        for color, history in zip(colors, histories.values(), strict=True):
            _draw_run(metric, history, _accuracy_key(history) if is_accuracy else curve, color)
            _draw_run(loss, history, "loss", color)
        if is_accuracy:
            metric.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        metric.set_ylabel(name)
        loss.set(ylabel="loss (log scale)", xlabel="epoch", yscale="log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        loss.yaxis.set_minor_formatter(NullFormatter())
        loss.xaxis.get_major_locator().set_params(integer=True)
        decorate(metric, loss)
        lines = [Line2D([], [], color=color) for color in colors]
        figure.legend(lines, list(histories), loc="outside upper left", ncols=2, handlelength=1.4)
        runs = ", ".join(histories)
        return as_svg(figure, "training-curves", f"{name.capitalize()} and loss by epoch of: {runs}.")


def confusion_matrix(matrix: Any, class_names: Sequence[str]) -> str:
    """How often each true class (row) was predicted as each class (column).

    With more than `MAX_GRID_CLASSES` classes, a grid is unreadable: the most frequent confusions are drawn instead,
    with the total number of confusions.
    """
    counts = check_confusion(matrix, class_names)
    with in_style():
        if len(class_names) > MAX_GRID_CLASSES:
            return _confusion_bars(counts, class_names)
        return _confusion_grid(counts, class_names)


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


def size_accuracy(
    rows: Sequence[Point], *, intervals: Mapping[str, tuple[float, float]] | None = None, measure: Measure | None = None
) -> str:
    """Quality against file size in bytes, on a log axis; rows without a file are left out.

    `intervals` maps a row's id to the ends of its confidence interval. The line joins the models that no other model
    beats in both size and quality. `measure` defines the quality; None means accuracy. The axis is oriented so that up
    is better.
    """
    noun, is_share, higher = ("accuracy", True, True) if measure is None else _scale_of(measure)
    drawn = [row for row in rows if row.num_bytes]
    with in_style():
        figure = new_figure(5.0)
        axes = figure.subplots()
        for row in drawn:
            low, high = (intervals or {}).get(row.id, (row.quality, row.quality))
            axes.plot([row.num_bytes] * 2, [low, high], color=MUTED, linewidth=1, alpha=0.55, zorder=2)
        front = _front(drawn, higher_is_better=higher)
        axes.plot([r.num_bytes for r in front], [r.quality for r in front], color=BLUE, alpha=0.35, zorder=1)
        axes.scatter([r.num_bytes for r in drawn], [r.quality for r in drawn], s=52, c=BLUE, zorder=3)
        axes.set(xscale="log", xlabel="file size (log scale)", ylabel=noun)
        if is_share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        if not higher:
            axes.invert_yaxis()
        _size_axis(axes, [row.num_bytes for row in drawn])
        decorate(axes)
        _label_points(axes, drawn)
        show = "{:.1%}".format if is_share else "{:.4g}".format
        listing = "; ".join(f"{r.title}: {human_bytes(r.num_bytes)}, {show(r.quality)}" for r in drawn)
        return as_svg(figure, "size-accuracy", f"{noun[0].upper()}{noun[1:]} against file size. {listing}.")


def sensitivity_map(table: SensitivityTable) -> str:
    """What it costs to compress each layer, as a grid of layers by settings: the darker, the larger the drop.

    A drop of 0 or less is blank; the shade is the square root of the drop, relative to the largest.

    Args:
        table: `kd.compression.sensitivity(...).table`.
    """
    from matplotlib.patches import Rectangle

    drops, columns = np.array(table.drops, np.float64), table.columns
    most = max(drops.max(initial=0.0), 1e-9)
    with in_style():
        figure = new_figure(1.1 + 0.28 * len(drops))
        axes = figure.subplots()
        for row, column in np.ndindex(drops.shape):
            alpha = math.sqrt(max(drops[row, column], 0.0) / most)
            place = (column - 0.48, row - 0.46)
            axes.add_patch(Rectangle(place, 0.96, 0.92, color=ORANGE, alpha=alpha, linewidth=0))
            ink = CARD if alpha > 0.75 else INK
            text = f"{drops[row, column]:.1f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
        names = [_shortened(layer.path, 22) for layer in table.layers]
        axes.set_yticks(range(len(names)), names, color=INK, fontsize=9)
        axes.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns], fontsize=8)
        axes.xaxis.tick_top()
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(drops) - 0.5, -0.5))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        unit = f" in {table.unit}" if table.unit else ""
        noun = table.measure.replace("_", " ")
        text = f"Drop of {noun}{unit} by layer and setting, from {table.baseline:.4g}."
        return as_svg(figure, "sensitivity-map", text)


def _scale_of(measure: Measure) -> tuple[str, bool, bool]:
    return measure.noun, measure.is_share, measure.higher_is_better


def _draw_run(axes: Axes, history: Mapping[str, Sequence[float]], key: str, color: str) -> None:
    """Draws the curves of one run, validation over training; `None` and NaN leave a gap."""
    styles = {f"val_{key}": {"linewidth": 1.8}, key: {"linewidth": 1.1, "linestyle": (0, (3, 2)), "alpha": 0.75}}
    for name, style in styles.items():
        if name in history:
            values = np.array(history[name], np.float64)
            marker = "o" if len(values) == 1 else None
            axes.plot(np.arange(1, len(values) + 1), values, color=color, marker=marker, **style)


def _accuracy_key(history: Mapping[str, Any]) -> str:
    """The key of the accuracy in a history, such as `accuracy` or `binary_accuracy`."""
    names = [name.removeprefix("val_") for name in history if name.endswith("accuracy")]
    return "accuracy" if "accuracy" in names or not names else names[0]


def _confusion_grid(counts: np.ndarray, class_names: Sequence[str]) -> str:
    from matplotlib.patches import Rectangle

    size = len(class_names)
    figure = new_figure(4.9)
    axes = figure.subplots()
    errors = counts - np.diag(np.diag(counts))
    font_size = min(9, 380 / (size * len(f"{counts.max(initial=1):g}")))  # the longest count fits a cell
    rows, most = np.maximum(counts.sum(axis=1), 1), max(errors.max(initial=0), 1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        right, count = row == column, counts[row, column]
        alpha = 0.15 + 0.85 * (count / rows[row] if right else math.sqrt(count / most))
        color = BLUE if right else ORANGE
        axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=alpha, linewidth=0))
        ink = CARD if alpha > 0.75 else INK
        axes.text(column, row, f"{count:g}", ha="center", va="center", color=ink, fontsize=font_size)
    names = [_shortened(name, 14) for name in class_names]
    upright = size <= 12 and max(map(len, names), default=0) <= 3
    axes.set_xticks(range(size), names, rotation=0 if upright else 90, color=INK)
    axes.set_yticks(range(size), names, color=INK)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted class", ylabel="true class")
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    text = f"Confusion matrix of {size} classes: {errors.sum():g} of {counts.sum():g} are wrong."
    return as_svg(figure, "confusion-matrix", text)


def _confusion_bars(counts: np.ndarray, class_names: Sequence[str]) -> str:
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = [divmod(int(index), len(class_names)) for index in order if errors.flat[index] > 0]
    names = [_shortened(class_names[row], 18) + " as " + _shortened(class_names[column], 18) for row, column in pairs]
    figure = new_figure(4.9)
    axes = figure.subplots()
    bars = axes.barh(range(len(pairs)), [errors[pair] for pair in pairs], color=ORANGE, height=0.7)
    axes.bar_label(bars, fmt="{:g}", padding=3, fontsize=9.5)
    axes.set_yticks(range(len(pairs)), names, color=INK, fontsize=9.5)
    axes.set(ylim=(max(len(pairs), 1) - 0.4, -0.6), xlabel="test examples")
    axes.xaxis.get_major_locator().set_params(integer=True)
    title = f"The {len(pairs)} most frequent of {np.count_nonzero(errors)} kinds of confusion"
    wrong = f"{errors.sum():g} of {counts.sum():g} wrong"
    note = f"{title}\n({len(class_names)} classes are too many for a grid; {wrong})"
    figure.suptitle(note, x=0.02, ha="left", fontsize=10.5, color=INK)
    decorate(axes)
    axes.grid(visible=False, axis="y")
    return as_svg(figure, "confusion-matrix", note.replace("\n", " ") + ".")


def _draw_image(axes: Axes, image: Any, caption: str | None) -> None:
    pixels = _pixels(image)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4)):
        axes.imshow(pixels, cmap="gray", interpolation="none", vmin=0, vmax=1)
        axes.set_anchor("N")
    elif pixels.ndim == 1:
        axes.plot(pixels, color=MUTED, linewidth=1, marker="o" if len(pixels) == 1 else None)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if caption is not None:
        axes.set_xlabel(_shortened(caption, 10), color=ORANGE, fontsize=9)


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
        names = [_shortened(class_names[index], 14) for index in classes] if axes is panels[0] else []
        axes.set_yticks(range(len(names)), names, fontsize=9.5)
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)


def _pixels(image: Any) -> np.ndarray:
    """An image as `[height, width]` or `[height, width, 3]` floats from 0 to 1, whatever its original range.

    An example that is not an image keeps its shape.
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


def _front(rows: Sequence[Point], *, higher_is_better: bool = True) -> list[Point]:
    """The rows that no other row beats in both size and quality, smallest first."""
    front: list[Point] = []
    sign = 1 if higher_is_better else -1
    for row in sorted(rows, key=lambda row: (row.num_bytes, -sign * row.quality)):
        if not front or sign * row.quality > sign * front[-1].quality:
            front.append(row)
    return front


def _size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """At most six ticks, at sizes that are powers of two."""
    low, high = min(sizes, default=1024), max(sizes, default=1024)
    axes.set_xlim(low / 1.8, high * 1.8)
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    step = max(1, math.ceil((last - first) / 5))
    axes.set_xticks([2**power for power in range(first, last + 1, step) if low / 1.8 <= 2**power <= high * 1.8])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: human_bytes(value))


def _label_points(axes: Axes, rows: Sequence[Point]) -> None:
    """Writes each name next to its point, at the first place where it covers no other text or point."""
    axes.figure.draw_without_rendering()
    room = axes.get_window_extent()
    points = [tuple(axes.transData.transform((row.num_bytes, row.quality))) for row in rows]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for row, (x, y) in zip(rows, points, strict=True):
        width, height = 5.6 * len(row.title), 11
        sides = [(1, 0), (-1, 0)] if x < (room.x0 + room.x1) / 2 else [(-1, 0), (1, 0)]
        places = [(side, lift * step) for step in range(6) for lift in (13, -13) for side, _ in sides]
        side, lift = next(
            (place for place in places if not _hides(_box(x, y, place, width, height), taken, room)),
            places[0],
        )
        taken.append(_box(x, y, (side, lift), width, height))
        axes.annotate(
            row.title,
            (row.num_bytes, row.quality),
            xytext=(9 * side, lift),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=10,
        )


def _box(x: float, y: float, place: tuple[int, int], width: float, height: float) -> tuple[float, ...]:
    side, lift = place
    left = x + 9 if side > 0 else x - 9 - width
    return left, y + lift - height / 2, left + width, y + lift + height / 2


def _hides(box: tuple[float, ...], taken: Sequence[tuple[float, ...]], room: Any) -> bool:
    left, bottom, right, top = box
    if left < room.x0 or right > room.x1 or bottom < room.y0 or top > room.y1:
        return True
    return any(left < x1 and right > x0 and bottom < y1 and top > y0 for x0, y0, x1, y1 in taken)


def _shortened(text: Any, length: int) -> str:
    """The text, with its middle left out if it is too long: the ends tell `"class 1"` from `"class 2"`."""
    text, tail = str(text), length // 3
    return text if len(text) <= length else f"{text[: length - tail - 1]}…{text[-tail:]}"
