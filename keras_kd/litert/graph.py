"""The operators of a LiteRT file, read without running it."""

from __future__ import annotations

import functools
from typing import NamedTuple

_PASS_VALUES_ON = ("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class Operator(NamedTuple):
    """One operator of a graph.

    Attributes:
        name: as in LiteRT's schema, for example "CONV_2D"; the custom code of a custom operator.
        inputs: the indices of its input tensors; -1 for a missing optional one.
        outputs: the indices of its output tensors.
        input_dtypes, output_dtypes: the dtypes of these tensors, such as "int8"; None for a missing one.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_dtypes: tuple[str | None, ...]
    output_dtypes: tuple[str, ...]


def read_operators(content: bytes) -> list[list[Operator]]:
    """The operators of each graph in a file, the main graph first.

    Args:
        content: a whole LiteRT file.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    codes = [_code_name(schema, model.OperatorCodes(number)) for number in range(model.OperatorCodesLength())]
    return [_read_graph(schema, model.Subgraphs(number), codes) for number in range(model.SubgraphsLength())]


def float_operators(content: bytes) -> tuple[str, ...]:
    """The sorted names of the operators with a float32 output, except `DEQUANTIZE`, which only feeds them.

    The converter keeps an operator without an integer kernel in float and does not report it.

    Args:
        content: a whole LiteRT file.
    """
    operators = [operator for graph in read_operators(content) for operator in graph]
    names = {operator.name for operator in operators if "float32" in operator.output_dtypes}
    return tuple(sorted(names - {"DEQUANTIZE"}))


def producer(content: bytes, index: int) -> str | None:
    """The name of the operator that computes a tensor of the main graph; None for an input or a constant.

    Operators that only pass values on (reshapes, casts, quantization) are skipped.

    Args:
        content: a whole LiteRT file.
        index: the index of the tensor.
    """
    producers = {output: operator for operator in read_operators(content)[0] for output in operator.outputs}
    while index in producers:
        operator = producers[index]
        if operator.name not in _PASS_VALUES_ON:
            return operator.name
        index = operator.inputs[0]
    return None


def _read_graph(schema, graph, codes: list[str]) -> list[Operator]:
    operators = []
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        inputs = tuple(operator.Inputs(place) for place in range(operator.InputsLength()))
        outputs = tuple(operator.Outputs(place) for place in range(operator.OutputsLength()))
        dtypes = [tuple(_dtype(schema, graph, index) for index in indices) for indices in (inputs, outputs)]
        operators.append(Operator(codes[operator.OpcodeIndex()], inputs, outputs, *dtypes))
    return operators


def _code_name(schema, code) -> str:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files set only the second
    if number == schema.BuiltinOperator.CUSTOM:
        return code.CustomCode().decode()
    return _names(schema.BuiltinOperator)[number]


def _dtype(schema, graph, index: int) -> str | None:
    return None if index < 0 else _names(schema.TensorType)[graph.Tensors(index).Type()].lower()


@functools.cache
def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}
