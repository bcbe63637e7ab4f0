"""XNNPACK, the kernels that LiteRT uses on every CPU: no table, the file is loaded with it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from keras_kd.errors import ConfigurationError, explain
from keras_kd.export.delegates.result import DelegateCheck, OperatorCheck
from keras_kd.export.delegates.rules import Refusal
from keras_kd.litert import File, Placed, StoredOperator, xnnpack_placement

NAME, TITLE = "xnnpack", "XNNPACK"
_LEFT = Refusal("unexplained", "XNNPACK left it to LiteRT's own kernels, also on the CPU")


def check_by_running(file: File, *, timeout_s: float = 60.0) -> DelegateCheck:
    """Which operators of a file's main graph XNNPACK replaces when LiteRT loads the file, in a child process.

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
    checks = tuple(_check(file, place, operator, place in taken) for place, operator in enumerate(operators))
    notes = () if len(file.graphs) == 1 else ("Only the main graph was looked at.",)
    source = f"ai-edge-litert {version('ai-edge-litert')}, the file was loaded on this machine's CPU"
    return DelegateCheck(NAME, TITLE, "run here", source, checks, len(delegates), notes)


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


def _check(file: File, place: int, operator: StoredOperator, is_taken: bool) -> OperatorCheck:
    output = file.graphs[0].tensors[operator.outputs[0]].name if operator.outputs else ""
    refusal = None if is_taken else _LEFT
    return OperatorCheck(0, place, operator.name, operator.version, output, is_taken, refusal=refusal)
