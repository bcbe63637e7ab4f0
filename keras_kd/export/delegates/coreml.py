"""Core ML: LiteRT's delegate for Apple's Neural Engine."""

from __future__ import annotations

from keras_kd.export.delegates.conditions import constant, counts, dtypes, ranks, require, setting
from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.rules import Refusal, Rule, Table

_FOLDER = "tflite/delegates/coreml"
_DELEGATE = f"{_FOLDER}/coreml_delegate.mm, IsNodeSupportedByDelegate"
_FLOAT = ("float32", "float16")
_MAX_KERNEL = 16_384
_NO_ACTIVATION = setting("fused_activation_function", ("NONE",), default="NONE")
_FLOAT_ADVICE = "Export as float32 or float16: this delegate takes no integers."


def _builder(name: str, function: str) -> str:
    return f"{_FOLDER}/builders/{name}.cc, {function}"


def _is_float(node: Node) -> Refusal | None:
    place = 2 if node.name == "TRANSPOSE_CONV" else 0
    return dtypes(("float32",), place, is_required=True, advice=_FLOAT_ADVICE)(node)


def _broadcasts(node: Node) -> Refusal | None:
    first, second = node.input(0), node.input(1)
    if first is None or second is None:
        return Refusal("inputs", "it needs two inputs")
    if max(len(first.shape), len(second.shape)) > 4:
        return Refusal("rank", "more than 4 dimensions")
    one, other = ((1,) * (4 - len(shape)) + shape for shape in (first.shape, second.shape))
    is_scalar = any(node.is_constant(place) and node.inputs[place].num_elements == 1 for place in (0, 1))
    fits = one[0] == other[0] or is_scalar
    fits &= one[1:3] == other[1:3] or (1, 1) in (one[1:3], other[1:3])
    fits &= one[3] == other[3] or 1 in (one[3], other[3])
    return None if fits else Refusal("size", f"shapes {first.shape} and {second.shape} do not broadcast here")


def _joins_channels(node: Node) -> Refusal | None:
    first = node.input(0)
    rank = 0 if first is None else len(first.shape)
    if rank in (3, 4) and node.number("axis") in (rank - 1, -1):
        return None
    return Refusal("setting", "it does not concatenate the channels of 3 or 4 dimensions")


def _has_small_kernel(node: Node) -> Refusal | None:
    weights = node.input(1)
    if weights is None or len(weights.shape) != 4 or max(weights.shape[1:3]) > _MAX_KERNEL:
        return Refusal("size", f"a kernel above {_MAX_KERNEL:,}, or not of 4 dimensions")
    return None


def _takes_one_vector(node: Node) -> Refusal | None:
    first = node.input(0)
    if first is None or not first.shape or first.shape[-1] != first.num_elements:
        shape = None if first is None else first.shape
        advice = "Apply Dense to a single vector, with a batch of 1; use a 1x1 convolution elsewhere."
        return Refusal("size", f"an input of shape {shape}, and the delegate takes one vector", advice)
    return None


def _averages_positions(node: Node) -> Refusal | None:
    axes = node.integers(1)
    if not node.option("keep_dims", False):
        return Refusal("setting", "keep_dims is not set", "Use `GlobalAveragePooling2D(keepdims=True)`.")
    if axes is None or any(axis % 4 not in (1, 2) for axis in axes):
        return Refusal("setting", "a mean over other than height and width")
    return None


def _pads_positions(node: Node) -> Refusal | None:
    paddings, values = node.input(1), node.integers(1)
    if paddings is None or paddings.shape != (4, 2) or values is None or len(values) < 8:
        return Refusal("rank", "padding of other than 4 dimensions")
    if any(values[:2]) or any(values[6:8]):
        return Refusal("setting", "it pads the batch or the channels")
    return None


_CONSTANT_PADDING = constant(1)
_RULES = (
    Rule(
        ("ADD", "MUL"),
        _builder("util", "IsBinaryOpSupported"),
        conditions=(dtypes(_FLOAT), dtypes(_FLOAT, 1), _broadcasts),
    ),
    Rule(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _DELEGATE, conditions=(_NO_ACTIVATION,)),
    Rule(
        ("CONCATENATION",),
        _builder("concatenation_op_builder", "IsConcatenationOpSupported"),
        conditions=(_NO_ACTIVATION, counts(inputs=range(2, 1000)), _joins_channels),
    ),
    Rule(
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        _builder("convolution_op_builder", "IsConvolutionOpSupported"),
        conditions=(constant(1, 2, advice=""), _has_small_kernel),
    ),
    Rule(
        ("TRANSPOSE_CONV",),
        _builder("convolution_op_builder", "IsTransposeConvolutionOpSupported"),
        conditions=(constant(0, 1), _has_small_kernel),
    ),
    Rule(
        ("FULLY_CONNECTED",),
        _builder("fully_connected_op_builder", "IsFullyConnectedOpSupported"),
        conditions=(
            setting("weights_format", ("DEFAULT",), default="DEFAULT"),
            dtypes(_FLOAT, 1, advice=_FLOAT_ADVICE),
            constant(1, 2, advice=""),
            _takes_one_vector,
        ),
    ),
    Rule(("HARD_SWISH", "LOGISTIC", "RELU", "RELU_N1_TO_1", "RELU6", "TANH"), _DELEGATE),
    Rule(
        ("MEAN",),
        _builder("pooling_layer_builder", "IsMeanOpSupported"),
        conditions=(ranks((4,), (0,)), _averages_positions),
    ),
    Rule(
        ("PAD", "PADV2"),
        _builder("pad_op_builder", "IsPadOpSupported"),
        conditions=(_CONSTANT_PADDING, _pads_positions),
    ),
    Rule(
        ("MIRROR_PAD",),
        _builder("pad_op_builder", "IsMirrorPadOpSupported"),
        conditions=(setting("mode", ("REFLECT",), default="REFLECT"), _CONSTANT_PADDING, _pads_positions),
    ),
    Rule(
        ("RESHAPE",),
        _builder("reshape_op_builder", "IsReshapeOpSupported"),
        conditions=(
            require(
                lambda node: False,
                Refusal(
                    "operator",
                    "it is refused from Core ML 3 (iOS 13)",
                    "Use global pooling with `keepdims=True` instead of Flatten.",
                ),
            ),
        ),
    ),
    Rule(
        ("RESIZE_BILINEAR",),
        _builder("resize_bilinear_op_builder", "IsResizeBilinearOpSupported"),
        conditions=(constant(1),),
    ),
    Rule(("SOFTMAX",), _DELEGATE, conditions=(setting("beta", (1.0,), default=1.0),)),
)

CORE_ML = Table(
    name="coreml",
    title="Core ML",
    source=f"LiteRT, github.com/google-ai-edge/LiteRT, commit f6745779 (2026-08-21): `{_FOLDER}`",
    rules=_RULES,
    conditions=(_is_float,),
    advice=(
        (("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),
        (("GELU", "ELU", "LEAKY_RELU"), "Use relu, relu6, tanh, sigmoid or hard_swish."),
        (("SUB", "DIV"), "Write it as an addition or a multiplication by a constant."),
    ),
    min_operators=2,
    folds_float16=True,
    notes=("The table is for Core ML 3 (iOS 13 and newer). Subgraphs of one operator stay on the CPU.",),
)
