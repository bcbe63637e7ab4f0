"""What LiteRT for Microcontrollers (TFLM) can run, and the operators that a file needs from it.

Source: github.com/tensorflow/tflite-micro at commit 90b983c of 2026-08-20.
"""

from __future__ import annotations

from collections.abc import Iterator

from keras_kd.errors import ExportError, explain
from keras_kd.litert import File, Graph, StoredOperator

# The operators for which `MicroMutableOpResolver` has a method (tensorflow/lite/micro/micro_mutable_op_resolver.h).
OPERATORS = frozenset(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
    GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
    TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """.split()
)
# The methods that are not named after the operator in camel case.
_METHODS = {
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONV_2D": "AddConv2D",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
# "Hybrid models are not supported on TFLite Micro" (kernels/conv_common.cc, depthwise_conv_common.cc); the others check
# that weights have the type of the input (fully_connected.cc, batch_matmul.cc, transpose_conv.cc).
_WITH_WEIGHTS = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_WITH_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # read as int32 (fully_connected.cc)
_FORMATS = "Export it as int8, int16x8 or float32."


def resolver_method(name: str) -> str:
    """The method of `MicroMutableOpResolver` that adds an operator.

    >>> resolver_method("CONV_2D"), resolver_method("HARD_SWISH")
    ('AddConv2D', 'AddHardSwish')
    """
    return _METHODS.get(name) or "Add" + "".join(word.capitalize() for word in name.split("_"))


def required_operators(file: File) -> tuple[str, ...]:
    """The sorted names of the operators of a file, in all graphs.

    Raises:
        ExportError: TFLM cannot run the file; the message names every reason.
    """
    reasons = sorted(set(_refusals(file)))
    if reasons:
        problem = f"LiteRT for Microcontrollers cannot run this file: {'; '.join(reasons)}."
        raise ExportError(explain(problem, expected=f"built-in operators out of {len(OPERATORS)}", fix=_FORMATS))
    return tuple(sorted({operator.name for graph in file.graphs for operator in graph.operators}))


def _refusals(file: File) -> Iterator[str]:
    if not any(graph.operators for graph in file.graphs):
        yield "it has no operators"
    for graph in file.graphs:
        for operator in graph.operators:
            yield from _operator_refusals(graph, operator)
        for tensor in graph.tensors:
            if tensor.dtype == "float16":
                yield "it has float16 tensors"
            if tensor.is_sparse or tensor.is_external:
                yield "its constants are sparse or in another file"


def _operator_refusals(graph: Graph, operator: StoredOperator) -> Iterator[str]:
    if operator.is_custom:
        yield f"{operator.name} is a custom operator"
    elif operator.name not in OPERATORS:
        yield f"it does not have {operator.name}"
    elif operator.name in _WITH_WEIGHTS and _is_hybrid(graph, operator):
        yield f"{operator.name} has float inputs and integer weights"
    elif operator.name in _WITH_BIAS and "int8" in graph.dtypes(operator.inputs[2:3]):
        yield f"{operator.name} has a bias of int8"


def _is_hybrid(graph: Graph, operator: StoredOperator) -> bool:
    dtypes = set(graph.dtypes(operator.inputs[:2]))
    return "float32" in dtypes and not dtypes.isdisjoint({"int2", "int4", "int8"})
