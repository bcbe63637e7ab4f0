"""SVG documents: the palette of all pictures of the package, and the outer element.

Colors are written as `var(--kd-ink, #1b2330)`: a page may set them for its light and dark modes; the default is the
light mode. The palette is close to Okabe and Ito's, which is safe for color-blind readers.
"""

from __future__ import annotations

from html import escape

INK, MUTED, GRID, CARD = "#1b2330", "#5d6878", "#dfe3e8", "#fefefe"
BLUE, ORANGE = "#0072b2", "#d55e00"
SERIES = (BLUE, ORANGE, "#00876c", "#a8518a", "#8a6d00", "#3b8fc4", "#6b7280")
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", CARD: "card"} | {
    color: f"series-{index}" for index, color in enumerate(SERIES, 1)
}


def paint(color: str) -> str:
    """A color of the palette as a CSS variable with the color as its default; any other color unchanged.

    >>> paint(INK), paint("#123456")
    ('var(--kd-ink, #1b2330)', '#123456')
    """
    return f"var(--kd-{_VARIABLES[color]}, {color})" if color in _VARIABLES else color


def document(body: str, *, name: str, box: str, title: str, description: str = "") -> str:
    """A picture for a page or a file, with a title and a description for screen readers.

    Args:
        body: the elements.
        name: the prefix of its ids, unique in the page.
        box: the view box: "x y width height".
        title: what it shows; plain text.
        description: more about it; plain text.
    """
    described = f' aria-describedby="{name}-details"' if description else ""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" '
        f'role="img" aria-labelledby="{name}-description"{described} font-family="system-ui, sans-serif">'
    )
    texts = f'<title id="{name}-description">{escape(title)}</title>'
    if description:
        texts += f'<desc id="{name}-details">{escape(description)}</desc>'
    return f"{head}{texts}{body}</svg>\n"
