"""The examples in the order in which a curriculum allows them, and the ids of a batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_kd import files
from keras_kd.data.curriculum.pacing import allowed_fraction, num_allowed


def in_order_of_difficulty(difficulties: np.ndarray, ties: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """Ids from the easiest example to the hardest, int64 `[n]`.

    With `strata`, examples are ordered by their rank within their stratum as a share of its size, so that the first m
    ids contain each stratum in proportion, to within one example.

    Args:
        difficulties: float64 `[n]`.
        ties: `[n]`, decides between equal difficulties.
        strata: int64 `[n]`, such as class numbers.

    >>> in_order_of_difficulty(np.array([3.0, 1.0, 2.0]), np.arange(3)).tolist()
    [1, 2, 0]
    """
    order = np.lexsort((ties, difficulties))
    if strata is None:
        return order
    ranks, counts = np.empty(len(order)), np.empty(len(order))
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        ranks[members], counts[members] = np.arange(len(members)), len(members)
    return np.lexsort((ties, difficulties, ranks / counts))


@dataclasses.dataclass(frozen=True, eq=False)
class Arrangement:
    """Which examples a batch consists of, as a function of seed, epoch and batch.

    Attributes:
        ids: int64 `[n]`, all examples, those that are allowed first in front.
        pacing, start, full_after: see `allowed_fraction`.
        settings: of the curriculum, as plain data.
    """

    ids: np.ndarray
    pacing: str
    start: float
    full_after: int
    settings: dict[str, Any]

    def allowed(self, step: int, batch_size: int) -> np.ndarray:
        """The ids that may be used at a step, at least `batch_size` of those that exist."""
        fraction = allowed_fraction(self.pacing, step, start=self.start, full_after=self.full_after)
        return self.ids[: num_allowed(fraction, len(self.ids), batch_size)]

    def batch(self, planned: np.ndarray, *, seed: int, epoch: int, number: int, num_batches: int) -> np.ndarray:
        """The ids of a batch, without repetition: `planned` if all examples are allowed, else drawn from the allowed.

        Args:
            planned: the ids of this batch without a curriculum.
            seed, epoch: of the order.
            number: of the batch in its epoch.
            num_batches: in each epoch.
        """
        allowed = self.allowed(epoch * num_batches + number, len(planned))
        if len(allowed) == len(self.ids):
            return planned
        return allowed[_distinct(np.random.RandomState([seed, epoch, number]), len(allowed), len(planned))]

    def identity(self) -> dict[str, Any]:
        """Everything that determines the batches, as plain data."""
        return {**self.settings, "ids": files.digest_of_arrays([self.ids])}


def _distinct(random: np.random.RandomState, size: int, count: int) -> np.ndarray:
    """`count` different numbers below `size`, uniformly; in a time that does not grow with `size`."""
    if size >= 4 * count:
        drawn = random.randint(size, size=3 * count)
        firsts = np.sort(np.unique(drawn, return_index=True)[1])[:count]
        if len(firsts) == count:  # nearly always
            return drawn[firsts]
    return random.permutation(size)[:count]
