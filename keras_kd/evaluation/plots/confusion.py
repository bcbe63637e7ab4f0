"""The confusion matrix: a grid, or bars for many classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure, shortened
from keras_kd.svg import BLUE, CARD, INK, ORANGE

MAX_GRID_CLASSES = 20  # with more classes, a confusion matrix is a gray square
MAX_CONFUSIONS = 15


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
    names = [shortened(name, 14) for name in class_names]
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
    names = [shortened(class_names[row], 18) + " as " + shortened(class_names[column], 18) for row, column in pairs]
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
