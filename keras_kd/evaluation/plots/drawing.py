"""The style of all pictures of the package, and the conversion of a matplotlib figure to an SVG string.

The output is deterministic: no dates, no random ids.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from keras_kd import svg
from keras_kd.svg import GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 5.6  # inches of 72 points: about the width of a card of the page, so that text keeps its size
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keras_kd",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
}


def in_style() -> Any:
    """A context that applies the style and restores matplotlib's settings at its end."""
    from matplotlib import rc_context

    return rc_context(_SETTINGS)


def new_figure(height: float) -> Figure:
    """A figure of the common width and a height of `height` inches of 72 points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), dpi=72, layout="constrained")


def decorate(*panels: Axes) -> None:
    """Replaces frames and ticks by grid lines."""
    for axes in panels:
        axes.grid(visible=True, axis="both")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def shortened(text: Any, length: int) -> str:
    """The text, with its middle left out if it is too long: the ends tell `"class 1"` from `"class 2"`."""
    text, tail = str(text), length // 3
    return text if len(text) <= length else f"{text[: length - tail - 1]}…{text[-tail:]}"


def as_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as inline SVG, with unique ids, colors that follow the page, and a description for screen readers."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text with its own fonts; matplotlib only measures it.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text).group(1)
    # Drops everything before the drawing: the document type, the metadata with its date, a style that would leak.
    body = text[text.index("</defs>") + len("</defs>") :]
    body = re.sub(r'( id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r" font-family: [^;\"]*;?", "", body)
    body = re.sub(r'style="[^"]*"', lambda match: _with_variables(match.group()), body)
    return svg.document(body.strip().removesuffix("</svg>"), name=name, box=box, title=description)


def _with_variables(style: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda match: svg.paint(match.group()), style)
