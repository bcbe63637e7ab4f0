"""Questions about the graphs of a LiteRT file."""

from __future__ import annotations

from keras_kd.litert.file import File, Signature
from keras_kd.litert.reading import read_file

_PASS_VALUES_ON = ("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def float_operators(content: bytes) -> tuple[str, ...]:
    """The sorted names of the operators with a float32 output, except `DEQUANTIZE`, which only feeds them.

    The converter keeps an operator without an integer kernel in float and does not report it.

    Args:
        content: a whole LiteRT file.
    """
    graphs = read_file(content).graphs
    names = {one.name for graph in graphs for one in graph.operators if "float32" in graph.dtypes(one.outputs)}
    return tuple(sorted(names - {"DEQUANTIZE"}))


def producer(content: bytes, index: int) -> str | None:
    """The name of the operator that computes a tensor of the main graph; None for an input or a constant.

    Operators that only pass values on (reshapes, casts, quantization) are skipped.

    Args:
        content: a whole LiteRT file.
        index: the index of the tensor.
    """
    operators = read_file(content).graphs[0].operators
    producers = {output: operator for operator in operators for output in operator.outputs}
    while index in producers:
        operator = producers.pop(index)  # once, since a damaged file may have a cycle
        if operator.name not in _PASS_VALUES_ON or not operator.inputs:
            return operator.name
        index = operator.inputs[0]
    return None


def named_ends(file: File, key: str | None = None) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The inputs and outputs of a graph, in its order: the name in the signature, and the index of the tensor.

    A tensor that no signature names has its own name.

    Args:
        file: a LiteRT file.
        key: the name of the signature; None for the main graph.
    """
    signature = _signature(file, key)
    graph = file.graphs[signature.graph if signature else 0]
    found = []
    for indices, kind in ((graph.inputs, "inputs"), (graph.outputs, "outputs")):
        names = {index: name for name, index in (getattr(signature, kind) if signature else {}).items()}
        found.append([(names.get(index, graph.tensors[index].name), index) for index in indices])
    return found[0], found[1]


def _signature(file: File, key: str | None) -> Signature | None:
    return next((one for one in file.signatures if (one.graph == 0 if key is None else one.key == key)), None)


def output_steps(content: bytes, key: str | None = None) -> dict[str, float]:
    """The step between two values of each output of a graph that is computed in integers, by its name.

    Args:
        content: a whole LiteRT file; one with float outputs may compute them in integers that it dequantizes.
        key: the name of the signature; None for the main graph.
    """
    file = read_file(content)
    signature = _signature(file, key)
    graph = file.graphs[signature.graph if signature else 0]
    makers = {index: one for one in graph.operators for index in one.outputs}
    steps = {}
    for name, index in named_ends(file, key)[1]:
        maker = makers.get(index)
        is_dequantized = maker is not None and maker.name == "DEQUANTIZE" and maker.inputs
        tensor = graph.tensors[maker.inputs[0] if is_dequantized else index]
        if len(tensor.scales) == 1:
            steps[name] = float(tensor.scales[0])
    return steps
