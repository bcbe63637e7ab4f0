"""Accuracy against operations of a model with early exits."""

from __future__ import annotations

import itertools

from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure
from keras_kd.evaluation.plots.labeling import label_points
from keras_kd.features.exit_curve import ExitCurve
from keras_kd.svg import BLUE, MUTED


def exit_curve(curve: ExitCurve) -> str:
    """Accuracy against the mean multiply-adds of an example, a dot for each threshold, as an SVG string.

    The vertical line is the cost of the model without exits.
    """
    costs, accuracies = zip(*((point.operations, point.accuracy) for point in curve.points), strict=True)
    with in_style():
        figure = new_figure(4.2)
        axes = figure.subplots()
        axes.axvline(1.0, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.plot(costs, accuracies, color=BLUE, linewidth=1.3, alpha=0.6, zorder=2)
        axes.scatter(costs, accuracies, s=40, color=BLUE, linewidths=0, zorder=3)
        axes.set(xlabel="mean multiply-adds; 1 is the model without exits", ylabel="accuracy")
        axes.set_xlim(0.0, 1.08 * max(1.0, *costs))
        axes.margins(y=0.12)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        decorate(axes)
        places = list(zip(costs, accuracies, strict=True))
        label_points(axes, *_named(curve), lines=list(itertools.pairwise(places)))
        return as_svg(figure, "exit-curve", _description(curve))


def _named(curve: ExitCurve) -> tuple[list[str], list[tuple[float, float]]]:
    """The thresholds of each dot as text: those that make no difference share one."""
    named: dict[tuple[float, float], list[float]] = {}
    for point in curve.points:
        named.setdefault((point.operations, point.accuracy), []).append(point.threshold)
    names = [" to ".join(f"{end:g}" for end in sorted({min(one), max(one)})) for one in named.values()]
    return names, list(named)


def _description(curve: ExitCurve) -> str:
    listing = "; ".join(
        f"threshold {point.threshold:g}: {point.operations:.3f}, {point.accuracy:.1%}" for point in curve.points
    )
    return f"Accuracy against the mean multiply-adds of an example, relative to the model without exits. {listing}."
