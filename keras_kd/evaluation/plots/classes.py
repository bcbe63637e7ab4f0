"""The change of accuracy per class against the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_kd.evaluation.comparison import ClassChange
from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure, shortened
from keras_kd.svg import BLUE, INK, MUTED, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 30


def class_changes(changes: Sequence[ClassChange], class_names: Sequence[str], *, file: str, student: str) -> str:
    """The accuracy of each class minus the teacher's, in points: bars for the file, diamonds for the student.

    Args:
        changes: in the order of drawing, such as `ClassCounts.changes()`; the first `MAX_CLASSES` are drawn.
        class_names: by class number.
        file, student: the titles of the two models.
    """
    shown = list(changes)[:MAX_CLASSES]
    places = np.arange(len(shown))
    lost = np.array([100 * change.file_change for change in shown])
    with in_style():
        figure = new_figure(1.4 + 0.26 * max(len(shown), 1))
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
        axes.barh(places, lost, color=[ORANGE if value < 0 else BLUE for value in lost], height=0.62, zorder=2)
        dots = [100 * change.student_change for change in shown]
        axes.scatter(dots, places, marker="D", s=26, facecolors="none", edgecolors=INK, zorder=3)
        names = [f"{shortened(class_names[change.index], 18)} ({change.count:,})" for change in shown]
        axes.set_yticks(places, names, color=INK, fontsize=9.5)
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="accuracy minus the teacher's, in points")
        axes.margins(x=0.06)
        decorate(axes)
        axes.grid(visible=False, axis="y")
        _legend(figure, file, student)
        return as_svg(figure, "class-changes", _description(shown, len(changes), class_names, file, student))


def _legend(figure: Figure, file: str, student: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Patch(color=ORANGE, label=f"{file}: worse"),
        Patch(color=BLUE, label="better"),
        Line2D([], [], marker="D", markersize=5, markerfacecolor="none", color=INK, linestyle="", label=student),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=9, handlelength=1.2, columnspacing=1.2)


def _description(
    shown: Sequence[ClassChange], num_classes: int, class_names: Sequence[str], file: str, student: str
) -> str:
    some = "" if len(shown) == num_classes else f" the {len(shown)} worst of {num_classes} classes,"
    listing = "; ".join(
        f"{class_names[one.index]} {100 * one.file_change:+.1f}, {100 * one.student_change:+.1f}" for one in shown
    )
    return f"Accuracy minus the teacher's in points,{some} {file} and {student}: {listing or 'no classes'}."
