"""Which channels of a model can only be removed together: a union-find over numbered channels."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np

FIXED = -1
"""The number of a channel that nothing can remove, such as one of an input."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Channels of the same layers, of which any number can be removed.

    Attributes:
        owners: the paths of the layers that compute them.
        classes: the numbers of the classes of coupled channels; a class is kept or removed as a whole.
        width: how many channels of the first owner belong to a class.
        widths: how many channels of each owner belong to a class.
        reason: why none can be removed; empty if some can.
    """

    owners: tuple[str, ...]
    classes: np.ndarray
    widths: tuple[int, ...]
    reason: str = ""

    @property
    def width(self) -> int:
        return self.widths[0]


class Channels:
    """The channels that the layers of a model compute, and which of them are coupled.

    >>> channels = Channels()
    >>> a, b, c = (channels.fresh(2, name) for name in "abc")
    >>> channels.unite(a, b, "summed with channels that stay")
    >>> channels.fix(c, "an output of the model")
    >>> [(pool.owners, pool.classes.tolist(), pool.reason) for pool in channels.pools()]
    [(('a', 'b'), [0, 1], ''), (('c',), [4, 5], 'an output of the model')]
    """

    def __init__(self):
        self._parents: list[int] = []
        self._blocks: list[int] = []
        self._owners: list[str] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int, owner: str) -> np.ndarray:
        """The numbers of the channels that a layer computes, int [count]."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        self._blocks += [len(self._owners)] * count
        self._owners.append(owner)
        return np.arange(first, first + count)

    def unite(self, one: np.ndarray, other: np.ndarray, reason: str) -> None:
        """Couples channels pair by pair. Those beside a `FIXED` one cannot be removed, for this reason."""
        one, other = (side.reshape(-1) for side in np.broadcast_arrays(one, other))
        self.fix(one[other == FIXED], reason)
        self.fix(other[one == FIXED], reason)
        both = (one != FIXED) & (other != FIXED) & (one != other)
        for first, second in np.unique(np.stack([one[both], other[both]], axis=1), axis=0):
            low, high = sorted((self._root(first), self._root(second)))
            self._parents[high] = low

    def fix(self, ids: np.ndarray, reason: str) -> None:
        """Keeps channels, and all that are coupled to them."""
        for number in np.unique(ids):
            if number != FIXED:
                self._reasons.setdefault(int(number), reason)

    def classes(self) -> np.ndarray:
        """The class of each channel, int [channels]: the smallest number of those coupled to it."""
        return np.array([self._root(number) for number in range(len(self._parents))], dtype=int)

    def reasons(self) -> dict[int, str]:
        """Why a class cannot be removed, by class."""
        found: dict[int, str] = {}
        for number, reason in self._reasons.items():
            found.setdefault(self._root(number), reason)
        return found

    def pools(self) -> list[Pool]:
        """The classes, grouped by the layers whose channels they contain, and by whether they can be removed."""
        members: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
        for number, class_ in enumerate(self.classes()):
            members[int(class_)][self._blocks[number]] += 1
        reasons, found = self.reasons(), collections.defaultdict(list)
        for class_, blocks in members.items():
            found[tuple(sorted(blocks.items())), reasons.get(class_) is not None].append(class_)
        return [self._pool(blocks, classes, reasons) for (blocks, _), classes in found.items()]

    def _pool(self, blocks: Any, classes: list[int], reasons: dict[int, str]) -> Pool:
        reason = reasons.get(classes[0], "")
        if not reason and len(classes) == 1:
            reason = "a single channel" if blocks[0][1] == 1 else "its channels depend on each other"
        owners = tuple(self._owners[block] for block, _ in blocks)
        return Pool(owners, np.array(classes), tuple(count for _, count in blocks), reason)

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return int(number)
