"""Writes LiteRT files from lists of tensors and operators."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def tensor(name, shape, *, dtype="FLOAT32", data=None, scales=(), zero_points=None, blocks=None, **fields):
    """A tensor with an attribute `data`, its content; None in a shape is an open dimension."""
    one = schema.TensorT()
    one.name, one.shape = name, [size or 1 for size in shape]
    one.shapeSignature = [-1 if size is None else size for size in shape] if None in shape else None
    one.type, one.data = getattr(schema.TensorType, dtype), data
    if scales or blocks:
        one.quantization = quantization = schema.QuantizationParametersT()
        quantization.scale = list(scales) or None
        quantization.zeroPoint = list(zero_points or [0] * len(scales)) or None
        if blocks:
            quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
            quantization.details = schema.BlockwiseQuantizationT()
            quantization.details.scales, quantization.details.zeroPoints, quantization.details.blockSize = blocks
    for field, value in fields.items():
        setattr(one, field, value)
    return one


def model(tensors, operators, *, inputs=(), outputs=(), more_graphs=(), signatures=(), metadata=()):
    """A model of graphs, each (tensors, operators, inputs, outputs); an operator is (name, inputs, outputs, options).

    Buffers are numbered in the order of the tensors that have content.
    """
    result = schema.ModelT()
    result.version, result.description = 3, "by hand"
    result.buffers, result.operatorCodes, result.subgraphs = [schema.BufferT()], [], []
    codes = {}
    for one in ((tensors, operators, inputs, outputs), *more_graphs):
        result.subgraphs.append(_graph(result, codes, *one))
    result.signatureDefs = [_signature(*one) for one in signatures] or None
    result.metadata = [_metadata(result, *one) for one in metadata] or None
    return result


def _graph(result, codes, tensors, operators, inputs, outputs):
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", tensors, []
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    for one in tensors:
        if one.data is not None:
            one.buffer = len(result.buffers)
            result.buffers.append(buffer(one.data))
    for name, reads, writes, *options in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex = codes.setdefault(name, len(codes))
        if len(result.operatorCodes) < len(codes):
            result.operatorCodes.append(_code(name))
        operator.inputs, operator.outputs = list(reads), list(writes)
        for kind, settings in options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            vars(operator.builtinOptions).update(settings)
        graph.operators.append(operator)
    return graph


def buffer(data):
    one = schema.BufferT()
    one.data = np.frombuffer(data, "uint8")
    return one


def _code(name):
    code = schema.OperatorCodeT()
    is_builtin = name in vars(schema.BuiltinOperator)
    code.builtinCode = getattr(schema.BuiltinOperator, name) if is_builtin else schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    code.customCode = None if is_builtin else name
    return code


def _signature(key, graph, inputs, outputs):
    one = schema.SignatureDefT()
    one.signatureKey, one.subgraphIndex = key, graph
    one.inputs, one.outputs = [_named(*pair) for pair in inputs.items()], [_named(*pair) for pair in outputs.items()]
    return one


def _named(name, index):
    one = schema.TensorMapT()
    one.name, one.tensorIndex = name, index
    return one


def _metadata(result, name, data):
    one = schema.MetadataT()
    one.name, one.buffer = name, len(result.buffers)
    result.buffers.append(buffer(data))
    return one


def serialized(made):
    builder = flatbuffers.Builder()
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())
