"""Subgraphs of a delegate, as LiteRT's partitioner forms them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterator

from keras_kd.litert import Graph


def partitions(graph: Graph, taken: Collection[int]) -> list[list[int]]:
    """The subgraphs that consist of taken operators.

    The graph is split into epochs. Each collects, in execution order and as often as this finds more, the operators
    whose inputs are ready and that are of one kind, taken or not; the first ready operator determines the kind. So an
    operator joins an earlier subgraph if it depends on nothing later, wherever it is in the file.

    Source: LiteRT, `tflite/graph_info.cc`, `PartitionGraphIntoIndependentNodeSubsets` with `greedily`, commit f6745779
    (2026-08-21).

    Args:
        graph: a graph.
        taken: the places of the operators that the delegate takes.

    Returns:
        The places of the operators of each subgraph, in ascending order, and the subgraphs in the order in which they
        run. Operators that wait for each other, in a damaged file, are in none.
    """
    ready, found = _Ready(graph, taken), []
    while (kind := ready.next_kind()) is not None:
        epoch = list(ready.take_all(kind))
        if kind:
            found.append(sorted(epoch))
    return found


class _Ready:
    """The operators whose inputs have been computed, those that are taken and those that are not."""

    def __init__(self, graph: Graph, taken: Collection[int]):
        self._operators, self._taken = graph.operators, taken
        self._missing = {index for operator in graph.operators for index in operator.outputs}
        self._num_missing, self._readers = [], defaultdict(list)
        self._heaps: dict[bool, list[int]] = {True: [], False: []}
        for place, operator in enumerate(graph.operators):
            missing = self._missing.intersection(operator.inputs)
            self._num_missing.append(len(missing))
            for index in missing:
                self._readers[index].append(place)
            if not missing:
                self._add(place)

    def next_kind(self) -> bool | None:
        """Whether the first ready operator is taken; None if no operator is ready."""
        first = {heap[0]: kind for kind, heap in self._heaps.items() if heap}
        return first[min(first)] if first else None

    def take_all(self, kind: bool) -> Iterator[int]:
        """The ready operators of a kind, and those of it that they make ready."""
        while self._heaps[kind]:
            place = heapq.heappop(self._heaps[kind])
            yield place
            self._compute(place)

    def _compute(self, place: int) -> None:
        for index in self._missing.intersection(self._operators[place].outputs):
            self._missing.remove(index)
            for reader in self._readers[index]:
                self._num_missing[reader] -= 1
                if not self._num_missing[reader]:
                    self._add(reader)

    def _add(self, place: int) -> None:
        heapq.heappush(self._heaps[place in self._taken], place)
