"""Comparison of sizes and shapes in which None means unknown."""

from __future__ import annotations

from collections.abc import Sequence


def same_size(one: int | None, other: int | None) -> bool:
    """Whether two sizes agree; an unknown size agrees with any.

    >>> same_size(3, None), same_size(3, 4)
    (True, False)
    """
    return one == other or None in (one, other)


def same_shape(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether two shapes have the same number of axes and agree in each.

    >>> same_shape((None, 3), (8, 3)), same_shape((None, 3), (3,))
    (True, False)
    """
    return len(one) == len(other) and all(map(same_size, one, other))
