"""Applies the table of a delegate to a file: operator by operator, then subgraph by subgraph."""

from __future__ import annotations

from collections.abc import Mapping

from keras_kd.export.delegates.conditions import STATIC_ADVICE
from keras_kd.export.delegates.nodes import Node, float16_constants
from keras_kd.export.delegates.partitions import partitions
from keras_kd.export.delegates.result import DelegateCheck, OperatorCheck
from keras_kd.export.delegates.rules import Refusal, Table, first_refusal
from keras_kd.litert import File

# Inputs that determine the size of an output: computed ones give it a size that is known at run time only.
_SIZES: Mapping[str, tuple[int, ...]] = {
    "BROADCAST_TO": (1,),
    "FILL": (0,),
    "PAD": (1,),
    "PADV2": (1,),
    "MIRROR_PAD": (1,),
    "RANGE": (0, 1, 2),
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,),
    "TOPK_V2": (1,),
    "TRANSPOSE_CONV": (0,),
    "UNIQUE": (0,),
    "WHERE": (0,),
}


def check_by_table(file: File, table: Table) -> DelegateCheck:
    """Which operators of a file a delegate takes by its table.

    The graphs that a caller can run are checked: those with a signature, and the first. The graphs inside `WHILE` and
    `IF` count as part of these operators.
    """
    operators: list[OperatorCheck] = []
    num_partitions = 0
    for index in runnable_graphs(file):
        found, number = _check_graph(file, index, table)
        operators += found
        num_partitions += number
    return DelegateCheck(
        table.name, table.title, "by table", table.source, tuple(operators), num_partitions, table.notes
    )


def runnable_graphs(file: File) -> tuple[int, ...]:
    """The indices of the graphs that a caller can run."""
    return tuple(sorted({0, *(signature.graph for signature in file.signatures)}))


def _check_graph(file: File, index: int, table: Table) -> tuple[list[OperatorCheck], int]:
    graph = file.graphs[index]
    replaced = float16_constants(file, graph) if table.folds_float16 else {}
    nodes = {
        place: Node(file, graph, operator, replaced)
        for place, operator in enumerate(graph.operators)
        if not (operator.name == "DEQUANTIZE" and replaced.keys() & set(operator.outputs))
    }
    refusals = _refusals(nodes, table)
    taken = nodes.keys() - refusals.keys()
    chosen = _chosen(partitions(graph, taken), table)
    kept = {place for one in chosen for place in one}
    late = Refusal("partition", _partition_reason(table))
    tolerated = _ends(nodes, kept) if table.tolerates_ends else set()
    checks = []
    for place, node in nodes.items():
        refusal = None if place in kept else refusals.get(place, late)
        checks.append(_operator_check(node, index, place, place in tolerated, refusal))
    return checks, len(chosen)


def _operator_check(node: Node, graph: int, place: int, is_tolerated: bool, refusal: Refusal | None) -> OperatorCheck:
    output = node.output()
    name = "" if output is None else output.name
    is_taken = refusal is None
    return OperatorCheck(graph, place, node.name, node.operator.version, name, is_taken, is_tolerated, refusal)


def _refusals(nodes: Mapping[int, Node], table: Table) -> dict[int, Refusal]:
    """Why operators are refused, by their place."""
    whole = _whole_refusal(nodes, table)
    found = {}
    for place, node in nodes.items():
        refusal = whole or table.refusal(node)
        if refusal is not None:
            advice = refusal.advice or table.advice_for(node.name)
            found[place] = Refusal(refusal.kind, refusal.reason, advice)
    return found


def _whole_refusal(nodes: Mapping[int, Node], table: Table) -> Refusal | None:
    """Why the delegate refuses all operators because of one of them."""
    for place, node in nodes.items():
        if table.is_static and has_open_size(node):
            reason = f"the whole file is refused because operator {place}, {node.name}, computes a size"
            return Refusal("dynamic", reason, STATIC_ADVICE)
        if (refusal := first_refusal(table.whole, node)) is not None:
            reason = f"the whole file is refused because of operator {place}, {node.name}: {refusal.reason}"
            return Refusal(refusal.kind, reason, refusal.advice)
    return None


def has_open_size(node: Node) -> bool:
    """Whether the size of an operator's output is known only when it runs."""
    places = _SIZES.get(node.name, ())
    return any(node.input(place) is not None and not node.is_constant(place) for place in places)


def _chosen(found: list[list[int]], table: Table) -> list[list[int]]:
    large = [one for one in found if len(one) >= table.min_operators]
    if table.max_partitions is None:
        return large
    if not table.takes_first:
        large = sorted(large, key=len, reverse=True)
    return large[: table.max_partitions]


def _partition_reason(table: Table) -> str:
    if table.takes_first:
        return "everything after the first subgraph runs on the CPU"
    least = f"no subgraph of fewer than {table.min_operators} operators" if table.min_operators > 1 else ""
    most = {None: "", 1: "only the largest subgraph"}.get(
        table.max_partitions, f"only the {table.max_partitions} largest subgraphs"
    )
    return f"the delegate takes {' and '.join(one for one in (most, least) if one)}"


def _ends(nodes: Mapping[int, Node], kept: set[int]) -> set[int]:
    """The conversions of inputs and outputs of the graph: `QUANTIZE` of an input, `DEQUANTIZE` of an output."""
    found = set()
    for place, node in nodes.items():
        graph, operator = node.graph, node.operator
        is_first = node.name == "QUANTIZE" and set(operator.inputs) <= set(graph.inputs)
        is_last = node.name == "DEQUANTIZE" and set(operator.outputs) <= set(graph.outputs)
        if place not in kept and (is_first or is_last):
            found.add(place)
    return found
