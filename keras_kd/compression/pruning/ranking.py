"""One ranking over all kernels: how much of each is pruned when a fraction of all weights is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_kd.schedules import Schedule
from keras_kd.serialization import register

LEVELS = np.linspace(0.0, 1.0, 101)


def sparsities(scores: Sequence[np.ndarray], levels: np.ndarray = LEVELS) -> list[np.ndarray]:
    """The sparsity of each kernel at every level of the sparsity of all of them together.

    At a level, the units of smallest score are pruned, whatever the kernel that they belong to. The first of equal
    scores go first.

    Args:
        scores: of the units of each kernel (weights or blocks), each of any shape.
        levels: fractions of all units.

    Returns:
        For each kernel, the fraction of its units that are pruned, in the shape of `levels`.

    >>> [found.tolist() for found in sparsities([np.array([1, 2]), np.array([3, 4])], np.array([0.0, 0.5, 0.75]))]
    [[0.0, 1.0, 1.0], [0.0, 0.0, 0.5]]
    """
    sizes = [score.size for score in scores]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(np.concatenate([score.reshape(-1) for score in scores]), kind="stable")
    places = [np.flatnonzero(owners[order] == index) for index in range(len(sizes))]
    pruned = np.rint(levels * sum(sizes))
    return [np.searchsorted(own, pruned, side="left") / own.size for own in places]


def with_least(values: np.ndarray, least: float) -> tuple[float, ...]:
    """The sparsities of a kernel whose pattern prunes `least` of every kernel before the ranking decides.

    Args:
        values: at `LEVELS`.
    """
    return tuple(np.where(LEVELS <= least, LEVELS, np.maximum(values, least)).tolist())


@register
@dataclasses.dataclass(frozen=True)
class Ranked(Schedule):
    """The sparsity of one kernel, from a schedule of the sparsity of all kernels together.

    Args:
        schedule: of the sparsity of all kernels.
        values: the sparsity of this kernel at evenly spaced levels of it, from 0 to 1; linear in between.
    """

    schedule: Any
    values: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "values", tuple(map(float, self.values)))

    def __call__(self, step):
        last = len(self.values) - 1
        place = ops.clip(self.schedule(step), 0.0, 1.0) * last
        nearest = ops.round(place)
        place = ops.where(ops.abs(place - nearest) < 1e-4, nearest, place)  # a level is met exactly
        low = ops.floor(place)
        values = ops.convert_to_tensor(self.values, "float32")
        below = ops.take(values, ops.cast(low, "int32"))
        above = ops.take(values, ops.cast(ops.minimum(low + 1.0, float(last)), "int32"))
        return below + (above - below) * (place - low)
