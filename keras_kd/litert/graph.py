"""Questions about the operators of a LiteRT file."""

from __future__ import annotations

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
        operator = producers[index]
        if operator.name not in _PASS_VALUES_ON:
            return operator.name
        index = operator.inputs[0]
    return None
