"""The curves of trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure
from keras_kd.svg import SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
