"""The sensitivity of a model's layers to compression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_kd.evaluation.plots.drawing import as_svg, in_style, new_figure, shortened
from keras_kd.svg import CARD, INK, ORANGE

if TYPE_CHECKING:
    from keras_kd.compression import SensitivityTable


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
        names = [shortened(layer.path, 22) for layer in table.layers]
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
