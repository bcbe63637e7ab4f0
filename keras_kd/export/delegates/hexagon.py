"""Hexagon: LiteRT's delegate for the DSP of older Qualcomm chips (Hexagon NN)."""

from __future__ import annotations

from keras_kd.export.delegates.conditions import at_most, constant, counts, dtypes, ranks, require, setting
from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.rules import Condition, Refusal, Rule, Table

_CHECK = "tflite/delegates/hexagon/utils.cc, CheckOpVersion and IsNodeSupportedByHexagon"
_EIGHT = ("uint8", "int8")
_BIAS = ("int32",)
_ADVICE = 'Export with `format="int8"`.'
_NO_ACTIVATION = setting("fused_activation_function", ("NONE",), default="NONE")
_RELU = setting("fused_activation_function", ("NONE", "RELU", "RELU_N1_TO_1", "RELU6"), default="NONE")
_STRIDES = (at_most("stride_h", 3), at_most("stride_w", 3))


def _rule(names: str, version: int, *conditions: Condition, least: int = 1) -> Rule:
    return Rule(tuple(names.split()), _CHECK, version, least, conditions)


def _inputs(*allowed: tuple[str, ...]) -> tuple[Condition, ...]:
    """As many inputs as given, each of these dtypes."""
    each = tuple(dtypes(one, place, advice=_ADVICE) for place, one in enumerate(allowed))
    return (counts(inputs=(len(allowed),)), *each)


def _all_have_8_bits(node: Node) -> Refusal | None:
    wrong = [one.dtype for one in node.inputs if one is not None and one.dtype not in _EIGHT]
    return (
        Refusal("dtype", f"an input is {wrong[0]}, and the delegate takes 8-bit integers", _ADVICE) if wrong else None
    )


def _has_one_scale(node: Node) -> Refusal | None:
    weights = node.input(1)
    if weights is None or len(weights.scales) <= 1:
        return None
    return Refusal("setting", "weights with a scale for each unit", "Dense layers need one scale per tensor.")


def _fits_depthwise(node: Node) -> Refusal | None:
    first, weights = node.input(0), node.input(1)
    is_dilated = node.number("dilation_h_factor", 1) != 1 or node.number("dilation_w_factor", 1) != 1
    if is_dilated and (node.number("stride_h", 1), node.number("stride_w", 1)) != (1, 1):
        return Refusal("setting", "a dilation together with a stride")
    has_one_channel = first is not None and len(first.shape) == 4 and first.shape[3] == 1
    if node.number("depth_multiplier", 1) != 1 and (is_dilated or not has_one_channel):
        return Refusal("setting", "a depth_multiplier above 1")
    if weights is not None and len(weights.shape) >= 2 and weights.shape[1] < 2:
        return Refusal("size", "a filter of height 1")
    return None


def _pools(node: Node) -> Refusal | None:
    if node.option("padding") == "SAME" and max(node.number("filter_height"), node.number("filter_width")) > 12:
        return Refusal("size", "a pool above 12 with padding")
    return None


_DILATION_1 = (at_most("dilation_h_factor", 1, least=1), at_most("dilation_w_factor", 1, least=1))
_AXIS = ("int32",)
_RULES = (
    _rule("ADD MUL SUB", 2, *_inputs(_EIGHT, _EIGHT), _RELU),
    _rule("MEAN", 2, *_inputs(_EIGHT, _AXIS), constant(1)),
    _rule("MIRROR_PAD PAD", 2, *_inputs(_EIGHT, _AXIS), constant(1)),
    _rule(
        "FULLY_CONNECTED",
        4,
        *_inputs(_EIGHT, _EIGHT, _BIAS),
        _has_one_scale,
        constant(2, advice=""),
        _RELU,
        setting("keep_num_dims", (False, 0), default=False),
        setting("weights_format", ("DEFAULT",), default="DEFAULT"),
    ),
    _rule("CONCATENATION PACK", 2, _all_have_8_bits),
    _rule("MAX_POOL_2D", 2, *_inputs(_EIGHT), _NO_ACTIVATION, _pools),
    _rule("AVERAGE_POOL_2D", 2, *_inputs(_EIGHT), _NO_ACTIVATION),
    _rule(
        "TRANSPOSE_CONV",
        3,
        counts(inputs=(3, 4)),
        dtypes(_AXIS),
        dtypes(_EIGHT, 1, advice=_ADVICE),
        dtypes(_EIGHT, 2, advice=_ADVICE),
        *_STRIDES,
    ),
    _rule("CONV_2D", 3, *_inputs(_EIGHT, _EIGHT, _BIAS), _RELU, *_STRIDES, *_DILATION_1),
    _rule("DEPTHWISE_CONV_2D", 3, *_inputs(_EIGHT, _EIGHT, _BIAS), _RELU, *_STRIDES, _fits_depthwise),
    _rule("RESHAPE", 1, counts(inputs=(1, 2)), dtypes(_EIGHT, advice=_ADVICE)),
    _rule("SOFTMAX LOGISTIC TANH RELU6 SPACE_TO_DEPTH DEPTH_TO_SPACE QUANTIZE", 2, *_inputs(_EIGHT)),
    _rule("HARD_SWISH NEG", 1, *_inputs(_EIGHT)),
    _rule("RELU", 2, *_inputs(_EIGHT), least=2),
    _rule("RESIZE_NEAREST_NEIGHBOR", 3, *_inputs(_EIGHT, _AXIS), constant(1)),
    _rule(
        "RESIZE_BILINEAR",
        3,
        *_inputs(_EIGHT, _AXIS),
        constant(1),
        require(
            lambda node: node.input(1) is not None and node.input(1).num_elements == 2,
            Refusal("size", "its size does not have two numbers"),
        ),
    ),
    _rule("L2_NORMALIZATION", 2, *_inputs(_EIGHT), _NO_ACTIVATION),
    _rule("ARG_MAX ARG_MIN", 2, *_inputs(_EIGHT, _AXIS)),
    _rule("TRANSPOSE", 2, *_inputs(_EIGHT, _AXIS)),
    _rule("SPLIT", 2, *_inputs(_AXIS, _EIGHT), constant(0)),
    _rule("MINIMUM MAXIMUM", 2, *_inputs(_EIGHT, _EIGHT)),
    _rule("SLICE", 2, *_inputs(_EIGHT, ("int32", "int64"), ("int32", "int64")), constant(1, 2)),
    _rule(
        "STRIDED_SLICE",
        2,
        *_inputs(_EIGHT, _AXIS, _AXIS, _AXIS),
        constant(1, 2, 3),
        setting("ellipsis_mask", (0,), default=0),
        setting("new_axis_mask", (0,), default=0),
    ),
    _rule("SQUARED_DIFFERENCE", 2, *_inputs(("int8",), ("int8",)), least=2),
    _rule("RSQRT", 2, *_inputs(("int8",)), least=2),
)

HEXAGON = Table(
    name="hexagon",
    title="Hexagon DSP",
    source=f"LiteRT, github.com/google-ai-edge/LiteRT, commit f6745779 (2026-08-21): `{_CHECK}`",
    rules=_RULES,
    conditions=(ranks((0, 1, 2, 3, 4)),),
    advice=((("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),),
    max_partitions=4,
    min_operators=2,
    notes=("For chips whose Hexagon NN library exists (up to v66); newer ones are reached through QNN (`qnn`).",),
)
