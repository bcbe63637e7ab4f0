"""Subgraphs of a delegate, as LiteRT's partitioner forms them."""

from __future__ import annotations

from collections.abc import Collection

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
        The places of the operators of each subgraph, in the order in which the subgraphs run.
    """
    ready, left = _Ready(graph), set(range(len(graph.operators)))
    found = []
    while left:
        epoch, is_taken = _next_epoch(ready, left, taken)
        if not epoch:  # operators that wait for each other: not a graph that runs
            break
        left -= set(epoch)
        if is_taken:
            found.append(epoch)
    return found


def _next_epoch(ready: _Ready, left: set[int], taken: Collection[int]) -> tuple[list[int], bool]:
    epoch: list[int] = []
    is_taken: bool | None = None
    while True:
        found_more = False
        for place in sorted(left - set(epoch)):
            if not ready.has_inputs_of(place) or is_taken not in (None, place in taken):
                continue
            is_taken, found_more = place in taken, True
            epoch.append(place)
            ready.add_outputs_of(place)
        if not found_more:
            return epoch, bool(is_taken)


class _Ready:
    """Which tensors have been computed."""

    def __init__(self, graph: Graph):
        self._operators = graph.operators
        self._missing = {index for operator in graph.operators for index in operator.outputs}

    def has_inputs_of(self, place: int) -> bool:
        return self._missing.isdisjoint(self._operators[place].inputs)

    def add_outputs_of(self, place: int) -> None:
        self._missing.difference_update(self._operators[place].outputs)
