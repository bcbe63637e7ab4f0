"""Which operators of a quantised file still compute in float."""

from __future__ import annotations


def float_operators(content: bytes) -> tuple[str, ...]:
    """The names, sorted, of the file's operators with a float32 result, except `DEQUANTIZE`, which leads to them.

    The converter leaves an operator without an integer kernel in float, and says nothing.

    Args:
        content: a TFLite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    found = set()
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            if any(graph.tensors[index].type == schema.TensorType.FLOAT32 for index in operator.outputs):
                found.add(names[code.builtinCode])
    return tuple(sorted(found - {"DEQUANTIZE"}))
