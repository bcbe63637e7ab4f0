"""XNNPACK, the kernels that LiteRT uses on every CPU: no table, the file is loaded with it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from keras_kd.errors import ConfigurationError, explain
from keras_kd.export.delegates.checking import runnable_graphs
from keras_kd.export.delegates.result import DelegateCheck, OperatorCheck
from keras_kd.export.delegates.rules import Refusal
from keras_kd.litert import File, Placed, StoredOperator, xnnpack_placement

NAME, TITLE = "xnnpack", "XNNPACK"
_LEFT = Refusal("unexplained", "XNNPACK left it to LiteRT's own kernels, also on the CPU")

_UNSEEN = Refusal(
    "unexplained", "LiteRT lists the operators of the first graph only, and this is one of another signature"
)


def check_by_running(file: File, *, timeout_s: float = 60.0) -> DelegateCheck:
    """Which operators of a file XNNPACK replaces when LiteRT loads the file, in a child process.

    LiteRT lists the first graph only; operators of further signatures count as fallbacks.

    Raises:
        ConfigurationError: LiteRT refuses the file, crashes on it, or is not finished in time.
    """
    operators = file.graphs[0].operators
    placed = xnnpack_placement(file.content, timeout_s=timeout_s)
    own, delegates = placed[: len(operators)], placed[len(operators) :]
    if len(own) < len(operators) or any(one.name != "DELEGATE" for one in delegates):
        received = f"{len(placed)} operators for {len(operators)} in the file"
        raise ConfigurationError(explain("LiteRT lists other operators than the file.", received=received))
    taken = replaced_operators(operators, delegates)
    checks = [_check(file, 0, place, None if place in taken else _LEFT) for place in range(len(operators))]
    for graph in runnable_graphs(file)[1:]:
        checks += [_check(file, graph, place, _UNSEEN) for place in range(len(file.graphs[graph].operators))]
    source = f"ai-edge-litert {version('ai-edge-litert')}, the file was loaded on this machine's CPU"
    return DelegateCheck(NAME, TITLE, "run here", source, tuple(checks), len(delegates))


def replaced_operators(operators: Sequence[StoredOperator], delegates: Sequence[Placed]) -> set[int]:
    """The places of the operators that subgraphs stand for: all between their outputs and their inputs."""
    producers = {output: place for place, operator in enumerate(operators) for output in operator.outputs}
    found: set[int] = set()
    for delegate in delegates:
        waiting, ends = list(delegate.outputs), set(delegate.inputs)
        while waiting:
            place = producers.get(waiting.pop())
            if place is not None and place not in found:
                found.add(place)
                waiting += [index for index in operators[place].inputs if index not in ends]
    return found


def _check(file: File, graph: int, place: int, refusal: Refusal | None) -> OperatorCheck:
    operator = file.graphs[graph].operators[place]
    output = file.graphs[graph].tensors[operator.outputs[0]].name if operator.outputs else ""
    return OperatorCheck(graph, place, operator.name, operator.version, output, refusal is None, refusal=refusal)
