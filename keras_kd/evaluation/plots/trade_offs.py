"""Quality against what it costs: the size of the file, or the time for one example."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from keras_kd.evaluation.comparison import pareto_front
from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure
from keras_kd.evaluation.plots.labeling import label_points
from keras_kd.evaluation.summary import milliseconds
from keras_kd.quantities import human_bytes
from keras_kd.svg import BLUE, MUTED
from keras_kd.tasks import Classification, Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_TICKS = 6


class Point(NamedTuple):
    """A model: what it costs, in bytes or milliseconds, and its value of the task's headline measure."""

    id: str
    title: str
    cost: float | None
    quality: float


class _Cost(NamedTuple):
    name: str  # of the picture
    title: str  # of the axis
    show: Callable[[float], str]
    tick: Callable[[float], str]
    ticks: Sequence[float]


_SIZE = _Cost("size-accuracy", "file size", human_bytes, human_bytes, [2.0**power for power in range(50)])
_LATENCY = _Cost(
    "latency-accuracy",
    "median latency",
    lambda time: f"{milliseconds(time)} ms",
    lambda time: f"{time:g} ms",
    [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)],
)


def size_accuracy(
    points: Sequence[Point],
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    measure: Measure | None = None,
) -> str:
    """Quality against file size in bytes, on a log axis, with the Pareto front; points without a file are left out.

    The axis of the quality is oriented so that up is better. The members of the front are filled and their names bold.

    Args:
        points: the models.
        intervals: the ends of the confidence interval of the quality, by the id of the point.
        measure: the quality; None means accuracy.
    """
    return _trade_off(_SIZE, points, intervals or {}, measure or Classification().headline)


def latency_accuracy(
    points: Sequence[Point],
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    measure: Measure | None = None,
) -> str:
    """Quality against the median time for one example in milliseconds; otherwise as `size_accuracy`."""
    return _trade_off(_LATENCY, points, intervals or {}, measure or Classification().headline)


def front(points: Sequence[Point], measure: Measure | None = None) -> list[Point]:
    """The points on the Pareto front, from the lowest cost to the highest; points without a cost are left out."""
    drawn, higher = drawable(points), measure is None or measure.higher_is_better
    costs, qualities = [point.cost for point in drawn], [point.quality for point in drawn]
    return [drawn[index] for index in pareto_front(costs, qualities, higher_is_better=higher)]


def drawable(points: Sequence[Point]) -> list[Point]:
    """The points with a cost above 0, as a log axis requires, and a finite quality."""
    return [point for point in points if point.cost and math.isfinite(point.cost) and math.isfinite(point.quality)]


def _trade_off(
    cost: _Cost, points: Sequence[Point], intervals: Mapping[str, tuple[float, float]], measure: Measure
) -> str:
    drawn, best = drawable(points), front(points, measure)
    with in_style():
        figure = new_figure(5.0)
        axes = figure.subplots()
        for point in drawn:
            low, high = intervals.get(point.id, (point.quality, point.quality))
            axes.plot([point.cost] * 2, [low, high], color=MUTED, linewidth=1, alpha=0.55, zorder=2)
        _draw_points(axes, drawn, best)
        axes.set(xscale="log", xlabel=f"{cost.title} (log scale)", ylabel=measure.noun)
        if measure.is_share:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        if not measure.higher_is_better:
            axes.invert_yaxis()
        _cost_axis(axes, cost, [point.cost for point in drawn])
        decorate(axes)
        bold = {index for index, point in enumerate(drawn) if point in best}
        label_points(
            axes, [p.title for p in drawn], [(p.cost, p.quality) for p in drawn], bold=bold, lines=_steps(best)
        )
        return as_svg(figure, cost.name, _description(cost, measure, drawn, best))


def _draw_points(axes: Axes, drawn: Sequence[Point], best: Sequence[Point]) -> None:
    """Dots, hollow where another model is better in both; the front as the steps of what is reached at each cost."""
    ends = [(point.cost, point.quality) for point in best]
    axes.plot([x for x, _ in ends], [y for _, y in ends], color=BLUE, alpha=0.35, drawstyle="steps-post", zorder=1)
    fills = [BLUE if point in best else "none" for point in drawn]
    costs, qualities = [point.cost for point in drawn], [point.quality for point in drawn]
    axes.scatter(costs, qualities, s=52, facecolors=fills, edgecolors=BLUE, zorder=3)


def _steps(best: Sequence[Point]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The lines of the front: to the right of a point, then up to the next one."""
    lines = []
    for one, other in itertools.pairwise(best):
        corner = (other.cost, one.quality)
        lines += [((one.cost, one.quality), corner), (corner, (other.cost, other.quality))]
    return lines


def _cost_axis(axes: Axes, cost: _Cost, costs: Sequence[float]) -> None:
    """A few ticks at round numbers within the limits."""
    low, high = min(costs, default=1024) / 1.8, max(costs, default=1024) * 1.8
    ticks = [tick for tick in cost.ticks if low <= tick <= high]
    step = max(1, math.ceil(len(ticks) / _MAX_TICKS))
    axes.set_xlim(low, high)
    axes.set_xticks(ticks[::step])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: cost.tick(value))


def _description(cost: _Cost, measure: Measure, drawn: Sequence[Point], best: Sequence[Point]) -> str:
    noun, show = measure.noun, "{:.1%}".format if measure.is_share else "{:.4g}".format
    listing = "; ".join(f"{point.title}: {cost.show(point.cost)}, {show(point.quality)}" for point in drawn)
    names = "; ".join(point.title for point in best)
    return f"{noun[0].upper()}{noun[1:]} against {cost.title}. {listing}. Pareto front: {names or 'none'}."
