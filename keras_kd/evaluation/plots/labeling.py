"""Places the names of points so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STEPS = 6


def label_points(
    axes: Axes,
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    *,
    bold: Collection[int] = (),
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Writes each name next to its point, at the first place where it covers no other text, point or line.

    Args:
        axes: with the points drawn and the limits set.
        names: one per point.
        places: the points, in data coordinates.
        bold: the indices of the names in bold.
        lines: the ends of horizontal and vertical lines, in data coordinates.
    """
    axes.figure.draw_without_rendering()
    room = axes.get_window_extent()
    points = [tuple(axes.transData.transform(place)) for place in places]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for line in lines:
        (left, bottom), (right, top) = (np.sort(axes.transData.transform(line), axis=0)).tolist()
        taken.append((left - 1, bottom - 1, right + 1, top + 1))
    for index, (name, (x, y)) in enumerate(zip(names, points, strict=True)):
        width, height = (6.2 if index in bold else 5.6) * len(name), 11
        sides = [(1, 0), (-1, 0)] if x < (room.x0 + room.x1) / 2 else [(-1, 0), (1, 0)]
        tried = [(side, lift * step) for step in range(_STEPS) for lift in (13, -13) for side, _ in sides]
        side, lift = next(
            (place for place in tried if not _hides(_box(x, y, place, width, height), taken, room)),
            tried[0],
        )
        taken.append(_box(x, y, (side, lift), width, height))
        axes.annotate(
            name,
            places[index],
            xytext=(9 * side, lift),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=10,
            fontweight="bold" if index in bold else "normal",
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
