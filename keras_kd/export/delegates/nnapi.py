"""NNAPI: LiteRT's delegate for Android's Neural Networks API, deprecated since Android 15."""

from __future__ import annotations

from keras_kd.export.delegates.conditions import any_of, constant, counts, dtypes, ranks, setting
from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.rules import Condition, Refusal, Rule, Table

_VALIDATE = "tflite/delegates/nnapi/nnapi_delegate.cc, NNAPIDelegateKernel::Validate"
_FLOAT = ("float32",)
_FLOAT_8 = ("float32", "uint8", "int8")
_FLOAT_8_32 = (*_FLOAT_8, "int32")
_UP_TO_4 = (0, 1, 2, 3, 4)
_INT16_ADVICE = "Export as int8 or float32."
_NO_ACTIVATION = setting("fused_activation_function", ("NONE",), default="NONE")
_RANK_4 = ranks(_UP_TO_4, (0, 1))


def _rule(names: str, dtype: tuple[str, ...] | None, version: int | None, *conditions: Condition) -> Rule:
    of_input = () if dtype is None else (dtypes(dtype, advice=_INT16_ADVICE),)
    return Rule(tuple(names.split()), _VALIDATE, version, conditions=(*of_input, *conditions))


def _adds_no_activation_to_integers(node: Node) -> Refusal | None:
    first = node.input(0)
    return _NO_ACTIVATION(node) if first is not None and first.dtype == "int32" else None


def _outputs_no_scalar(node: Node) -> Refusal | None:
    output = node.output()
    return Refusal("rank", "its output is a scalar") if output is not None and not output.shape else None


def _splits_evenly(node: Node) -> Refusal | None:
    sizes = node.integers(1)
    return Refusal("size", "a split of size 0") if sizes is not None and 0 in sizes else None


def _unpacks(node: Node) -> Refusal | None:
    first = node.input(0)
    if first is not None and node.number("axis") in (-1, len(first.shape) - 1):
        return Refusal("setting", "it unpacks along the last dimension")
    return None


def _multiplies_alike(node: Node) -> Refusal | None:
    first, second = node.input(0), node.input(1)
    if first is None or second is None or first.dtype != second.dtype:
        return Refusal("dtype", "its inputs differ in dtype")
    if first.shape[:-2] != second.shape[:-2]:
        return Refusal("size", f"the batches of {first.shape} and {second.shape} differ")
    return None


def _crops_nothing(node: Node) -> Refusal | None:
    return None if node.integers(2) == (0, 0, 0, 0) else Refusal("setting", "crops other than 0")


def _selects_alike(node: Node) -> Refusal | None:
    condition, first = node.input(0), node.input(1)
    if condition is None or first is None or condition.shape != first.shape:
        return Refusal("size", "condition and branches differ in shape")
    return None


_CONSTANT_AXIS = (dtypes(("int32",), 1), constant(1))
_NOT_INT16 = dtypes((*_FLOAT_8, "int32", "float16"), of_output=True, advice=_INT16_ADVICE)

_RULES = (
    _rule("ADD", _FLOAT_8_32, 2, _adds_no_activation_to_integers, _RANK_4),
    _rule("MUL", _FLOAT_8_32, 3, _adds_no_activation_to_integers, _RANK_4),
    _rule("SUB", _FLOAT_8_32, 3, _adds_no_activation_to_integers, _RANK_4),
    _rule("DIV", _FLOAT, 1, _RANK_4),
    _rule(
        "ARG_MAX ARG_MIN",
        ("float16", *_FLOAT_8_32),
        2,
        any_of(dtypes(("int32",), 1), constant(1)),
        setting("output_type", ("INT32",), default="INT32", advice="Use `tf.argmax(..., output_type=tf.int32)`."),
    ),
    _rule("AVERAGE_POOL_2D MAX_POOL_2D", _FLOAT_8, 2),
    _rule("L2_POOL_2D", _FLOAT, 1),
    _rule("CONV_2D", None, 5, counts(inputs=(3,))),
    _rule("DEPTHWISE_CONV_2D", None, 3),
    _rule("FULLY_CONNECTED", None, 5, _NOT_INT16),
    _rule("HARD_SWISH", _FLOAT_8, None),
    _rule("SOFTMAX", _FLOAT_8, 2, dtypes(_FLOAT_8, of_output=True), ranks(_UP_TO_4, (0,))),
    _rule("RESHAPE", _FLOAT_8_32, 1, ranks(_UP_TO_4), constant(1)),
    _rule("RESIZE_BILINEAR", _FLOAT_8, 3, ranks((4,), (0,)), constant(1)),
    _rule("RESIZE_NEAREST_NEIGHBOR", _FLOAT_8, 3, constant(1)),
    _rule("SQUEEZE", None, 1),
    _rule("UNIDIRECTIONAL_SEQUENCE_LSTM", None, 2, counts(inputs=(20, 24))),
    _rule("L2_NORMALIZATION", None, 2, _NO_ACTIVATION),
    _rule("LOCAL_RESPONSE_NORMALIZATION FLOOR", None, 1),
    _rule("CONCATENATION", ("float16", *_FLOAT_8), 2, _NO_ACTIVATION, ranks(_UP_TO_4, (0,))),
    _rule("DEQUANTIZE", ("uint8", "int8"), 2),
    _rule("RELU RELU_N1_TO_1 RELU6 LOGISTIC TANH", _FLOAT_8, 2),
    _rule("PAD PADV2", _FLOAT_8, 2),
    _rule("SPACE_TO_BATCH_ND", None, 2),
    _rule("BATCH_TO_SPACE_ND", None, 2, _crops_nothing),
    _rule("STRIDED_SLICE", _FLOAT_8, 2),
    _rule("TRANSPOSE", None, 2, constant(1)),
    _rule("ABS EXP LOG POW COS SIN SQRT", _FLOAT, 1),
    _rule("RSQRT", _FLOAT_8, 2),
    _rule("SLICE", _FLOAT_8_32, 2, dtypes(("int32",), 1), dtypes(("int32",), 2)),
    _rule("TRANSPOSE_CONV", None, 4, constant(0, 1)),
    _rule("SPACE_TO_DEPTH", _FLOAT_8, 2),
    _rule("DEPTH_TO_SPACE", _FLOAT_8, None),
    _rule("MEAN", _FLOAT_8, 2, _outputs_no_scalar, ranks(_UP_TO_4, (0,))),
    _rule("EMBEDDING_LOOKUP", None, 1, dtypes(_FLOAT, 1)),
    _rule("MAXIMUM MINIMUM", _FLOAT_8_32, 3),
    _rule("CAST", _FLOAT_8_32, 1, dtypes(_FLOAT_8_32, of_output=True)),
    _rule("LEAKY_RELU PRELU", _FLOAT_8, 1),
    _rule("TILE", _FLOAT_8_32, 1, dtypes(("int32",), 1)),
    _rule("LOGICAL_OR LOGICAL_AND LOGICAL_NOT", ("bool",), 1),
    _rule("LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL NOT_EQUAL", (*_FLOAT_8_32, "bool"), 2),
    _rule("NEG", ("float32", "int32"), 2),
    _rule("TOPK_V2", _FLOAT_8_32, 2, *_CONSTANT_AXIS),
    _rule("SELECT", None, 2, dtypes(_FLOAT_8_32, 1), _selects_alike),
    _rule("GATHER", ("float16", *_FLOAT_8_32), 2, dtypes(("int32",), 1), ranks(range(1, 9), (1,))),
    _rule("EXPAND_DIMS", ("float16", *_FLOAT_8_32), 1, *_CONSTANT_AXIS),
    _rule("SPLIT", None, 3, dtypes(_FLOAT_8_32, 1), dtypes(("int32",), 0), constant(0)),
    _rule("SPLIT_V", _FLOAT_8_32, 2, *_CONSTANT_AXIS, constant(2), _splits_evenly),
    _rule("LOG_SOFTMAX", _FLOAT, 1),
    _rule("QUANTIZE", _FLOAT_8, 2, dtypes(("uint8", "int8"), of_output=True)),
    _rule("REDUCE_ANY", None, 2, _outputs_no_scalar),
    _rule("REDUCE_MIN REDUCE_MAX", _FLOAT_8, 2, ranks(range(1, 9), (0,))),
    _rule("REDUCE_PROD SUM", _FLOAT, 1, _outputs_no_scalar),
    _rule("ELU", _FLOAT, 1),
    _rule("PACK", _FLOAT_8_32, 2),
    _rule("UNPACK", _FLOAT_8, 2, ranks((2, 3, 4), (0,)), _unpacks),
    _rule("SQUARED_DIFFERENCE", _FLOAT_8_32, 2, _RANK_4),
    _rule("BATCH_MATMUL", ("float32", "int32", "int8"), 2, ranks((2, 3, 4), (0,)), _multiplies_alike),
    _rule("MIRROR_PAD", _FLOAT_8_32, 2, counts(inputs=(2,))),
    _rule("REVERSE_V2", _FLOAT_8_32, 3, counts(inputs=(2,))),
)

NNAPI = Table(
    name="nnapi",
    title="NNAPI",
    source=f"LiteRT, github.com/google-ai-edge/LiteRT, commit f6745779 (2026-08-21): `{_VALIDATE}`",
    rules=_RULES,
    advice=(
        (("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),
        (("GELU",), "Use relu, or the GPU."),
    ),
    max_partitions=3,
    folds_float16=True,
    notes=(
        "NNAPI is deprecated since Android 15: prefer the GPU, or the vendor's NPU through LiteRT.",
        "The table is for Android 13 and newer; the driver of the phone may refuse more.",
    ),
)
