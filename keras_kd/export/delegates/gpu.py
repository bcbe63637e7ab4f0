"""The GPU: LiteRT's accelerator (ML Drift: OpenCL, OpenGL, Vulkan, Metal, WebGPU)."""

from __future__ import annotations

from keras_kd.export.delegates.conditions import (
    STATIC_ADVICE,
    any_of,
    broadcasts,
    computed,
    constant,
    counts,
    dtypes,
    ranks,
    require,
    setting,
)
from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.rules import Refusal, Rule, Table

_FLOAT = ("float32", "float16")
_ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGMOID")
_INTEGERS = ("int8", "int16", "int32")
_ALL_INTEGERS = (*_INTEGERS, "uint8", "uint16", "uint32")
_IN = (*_FLOAT, "bool", "int2", "int4", "int8", "uint8")
_OUT = (*_FLOAT, "int8", "uint8")
_COMPARE = ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL")
_LOGICAL = ("LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT")
_TAKES_INTEGERS = tuple(
    "ABS ADD ATAN2 COS DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM MUL NEG REDUCE_MAX REDUCE_MIN REDUCE_PROD RIGHT_SHIFT "
    "SIGN SIN SUB SUM TILE".split()
)
_TAKES_ALL = tuple(
    "BITCAST CAST CONCATENATION DYNAMIC_UPDATE_SLICE GATHER PACK PAD PADV2 RESHAPE REVERSE_V2 SELECT SELECT_V2 SLICE "
    "STRIDED_SLICE TRANSPOSE".split()
)
_INT16_ADVICE = "Export as float32, float16, dynamic or int8: the GPU computes in floats."


def _parser(name: str) -> str:
    return f"ml_drift_delegate/tflite/model_builder.cc, {name}::IsSupported"


def allowed_dtypes(operator: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dtypes of computed inputs and outputs (`GetOpsToReplaceWithOptions`)."""
    if operator == "ARG_MAX":
        return _IN, ("int32",)
    if operator in ("REDUCE_ALL", "REDUCE_ANY"):
        return ("bool",), ("bool",)
    if operator in _LOGICAL:
        return ("bool", *_INTEGERS), ("bool", *_INTEGERS)
    inputs, outputs = _IN, _OUT
    if operator in ("EMBEDDING_LOOKUP", "ONE_HOT", "DYNAMIC_UPDATE_SLICE"):
        inputs += ("int32",)
    if operator in _COMPARE:
        inputs, outputs = inputs + _ALL_INTEGERS, (*outputs, "bool")
    if operator == "TOPK_V2":
        outputs += ("int32",)
    if operator in _TAKES_INTEGERS:
        inputs, outputs = inputs + _INTEGERS, outputs + _INTEGERS
    if operator in _TAKES_ALL:
        inputs, outputs = inputs + _ALL_INTEGERS, (*outputs, *_ALL_INTEGERS, "bool")
    return inputs, outputs


def _has_allowed_dtypes(node: Node) -> Refusal | None:
    inputs, outputs = allowed_dtypes(node.name)
    for tensors, allowed in ((node.inputs, inputs), (node.outputs, outputs)):
        for one in tensors:
            if one is not None and not node.is_stored(one) and not one.is_variable and one.dtype not in allowed:
                advice = _INT16_ADVICE if one.dtype == "int16" else ""
                return Refusal("dtype", f"a tensor of dtype {one.dtype}", advice)
    return None


def _is_quantized_per_tensor(node: Node) -> Refusal | None:
    for one in (*node.inputs, *node.outputs):
        if one is not None and not node.is_stored(one) and one.dtype in ("int8", "uint8") and len(one.scales) > 1:
            return Refusal("setting", "a computed tensor is quantized per channel")
    return None


def _takes_operands(node: Node) -> Refusal | None:
    if len(node.operator.outputs) != 1 or (node.num_computed, node.num_constants) not in ((2, 0), (1, 1)):
        return Refusal("inputs", f"it has {node.num_computed} computed and {node.num_constants} constant inputs")
    first, second = node.operator.inputs[:2]
    if first == second and node.name not in ("ADD", "MUL"):
        return Refusal(
            "inputs", "both inputs are the same tensor", "Write it without the repetition, as x * x or 2 * x."
        )
    shapes = [one.shape for one in node.inputs if one is not None]
    if len(shapes[0]) != len(shapes[1]) and not broadcasts(*shapes):
        return Refusal("size", f"shapes {shapes[0]} and {shapes[1]} do not broadcast")
    return None


def _has_2d_weights(node: Node) -> Refusal | None:
    weights = node.input(1)
    if weights is None or not weights.scales:
        return None
    if weights.dtype not in ("int8", "int4", "int2"):
        return Refusal("dtype", f"quantized weights of dtype {weights.dtype}")
    if len(weights.shape) == 2 or (len(weights.shape) == 4 and weights.shape[1:3] == (1, 1)):
        return None
    return Refusal("size", f"quantized weights of shape {weights.shape}")


def _keeps_rank(node: Node) -> Refusal | None:
    first, output = node.input(0), node.output()
    keeps = bool(node.option("keep_num_dims", False)) and first is not None and output is not None
    if keeps and len(first.shape) != len(output.shape):
        return Refusal("rank", "keep_num_dims with an output of another rank")
    return None


def _fits_depthwise(node: Node) -> Refusal | None:
    image, filters, output = node.input(0), node.input(1), node.output()
    if any(one is None or len(one.shape) != 4 for one in (image, filters, output)):
        return Refusal("rank", "input, filter and output need 4 dimensions")
    channels = image.shape[3] * node.number("depth_multiplier", 1)
    if image.shape[0] == output.shape[0] and filters.shape[3] == output.shape[3] == channels:
        return None
    return Refusal("size", "its channels are not the input's times depth_multiplier")


def _selects(node: Node) -> Refusal | None:
    output = node.output()
    for one in node.inputs[1:3]:
        if one is not None and output is not None and one.shape not in ((), (1,), output.shape):
            return Refusal("size", f"a branch of shape {one.shape}, neither a scalar nor the output's shape")
    return None


def _slices(node: Node) -> Refusal | None:
    image, starts = node.input(0), node.input(1)
    if starts is None or image is None or not starts.shape or len(image.shape) - starts.shape[0] not in (0, 1):
        return Refusal("size", "begin, end and strides do not match the dimensions of the input")
    if any(step <= 0 for step in node.integers(3) or (1,)):
        return Refusal("setting", "a stride that is negative", "Reverse with `keras.ops.flip`.")
    return None


def _pads(node: Node) -> Refusal | None:
    paddings = node.input(1)
    if paddings is None or paddings.shape not in ((3, 2), (4, 2)):
        shape = None if paddings is None else paddings.shape
        return Refusal("rank", f"paddings of shape {shape}, and the delegate takes (3, 2) or (4, 2)")
    return None


def _permutes(node: Node) -> Refusal | None:
    permutation = node.integers(1)
    if permutation is None or not 2 <= len(permutation) <= 4:
        return Refusal("rank", "a permutation of other than 2 to 4 dimensions")
    return None


_ONE_INPUT = counts(computed=(1,))
_REDUCE = (counts(computed=(1,), constants=(1,), outputs=(1,)), dtypes(("int32",), 1))
_ACTIVATION = setting("fused_activation_function", _ACTIVATIONS, default="NONE")
_BLOCK = require(lambda node: node.number("block_size", 1) > 1, Refusal("setting", "block_size is not above 1"))
_ELEMENTWISE = _parser("ElementwiseOperationParser")


def _one(*operators: str, version: int = 2) -> Rule:
    return Rule(operators, _ELEMENTWISE, version, conditions=(counts(computed=(1,), constants=(0,), outputs=(1,)),))


def _two(*operators: str, version: int = 2) -> Rule:
    return Rule(operators, _ELEMENTWISE, version, conditions=(_takes_operands, _ACTIVATION))


_RULES = (
    _one("ABS", version=5),
    _one("GELU", version=3),
    _one(*"CEIL COS ELU EXP FLOOR LOG LOGICAL_NOT LOGISTIC NEG ROUND RSQRT SIGN SIN SQRT SQUARE TANH".split()),
    _two("ADD", "ADD_N", version=6),
    _two("MUL", version=8),
    _two("MAXIMUM", "MINIMUM", version=4),
    _two("FLOOR_DIV", version=3),
    _two(*"ATAN2 DIV FLOOR_MOD LOGICAL_AND LOGICAL_OR POW RIGHT_SHIFT SQUARED_DIFFERENCE SUB".split(), *_COMPARE),
    Rule(("ARG_MAX",), _parser("ArgMaxOperationParser"), conditions=(counts(computed=(1,), constants=(1,)),)),
    Rule(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"), _parser("Pooling2DOperationParser"), 2, conditions=(_ONE_INPUT, _ACTIVATION)
    ),
    Rule(
        ("BATCH_MATMUL",),
        _parser("BatchedMatMulOperationParser"),
        conditions=(counts(inputs=(2,), computed=(1, 2)), computed(0)),
    ),
    Rule(("BITCAST",), _parser("BitcastOperationParser"), conditions=(_ONE_INPUT,)),
    Rule(("CAST",), _parser("CastOperationParser"), conditions=(_ONE_INPUT,)),
    Rule(("CONCATENATION",), _parser("ConcatenationOperationParser"), 6, conditions=(_ACTIVATION,)),
    Rule(
        ("CONV_2D",),
        _parser("Conv2DOperationParser"),
        6,
        conditions=(counts(computed=(1, 2, 3), outputs=(1,)), computed(0), _ACTIVATION),
    ),
    Rule(
        ("CUMSUM",),
        _parser("CumsumOperationParser"),
        1,
        conditions=(counts(inputs=(2,)), dtypes(_FLOAT), dtypes(("int32",), 1), constant(1)),
    ),
    Rule(
        ("DEPTHWISE_CONV_2D",),
        _parser("DepthwiseConvolutionOperationParser"),
        6,
        conditions=(counts(computed=(1, 2)), _fits_depthwise, _ACTIVATION),
    ),
    Rule(("DEPTH_TO_SPACE",), _parser("DepthToSpaceOperationParser"), conditions=(_ONE_INPUT, _BLOCK)),
    Rule(
        ("DEQUANTIZE",),
        _parser("DequantizeOperationParser"),
        3,
        conditions=(
            dtypes(("int2", "int4", "int8", "uint8", *_FLOAT)),
            any_of(computed(0), ranks((2, 3, 4), (0,))),
            require(
                lambda node: node.is_constant(0) or (node.input(0) is not None and len(node.input(0).scales) == 1),
                Refusal("setting", "its input does not have a single scale"),
            ),
        ),
    ),
    Rule(
        ("DYNAMIC_UPDATE_SLICE",),
        _parser("DynamicUpdateSliceOperationParser"),
        conditions=(counts(inputs=(3,)), computed(2), dtypes(("int32",), 2)),
    ),
    Rule(
        ("EMBEDDING_LOOKUP",),
        _parser("EmbeddingLookupOperationParser"),
        conditions=(counts(inputs=(2,)), ranks((1,), (0,)), dtypes(("int8", "int4", "int2", "float32"), 1)),
    ),
    Rule(
        ("FULLY_CONNECTED",),
        _parser("FullyConnectedOperationParser"),
        14,
        conditions=(
            setting("weights_format", ("DEFAULT",), default="DEFAULT"),
            counts(computed=(1, 2), outputs=(1,)),
            computed(0),
            _has_2d_weights,
            _keeps_rank,
            _ACTIVATION,
        ),
    ),
    Rule(
        ("GATHER",),
        _parser("GatherOperationParser"),
        conditions=(
            counts(inputs=(2,)),
            ranks((1,), (1,), advice="Gather with a flat list of indices."),
            dtypes(("int32",), 1),
            require(
                lambda node: node.input(0) is not None and node.output() and node.input(0).dtype == node.output().dtype,
                Refusal("dtype", "its output has another dtype than its input"),
            ),
        ),
    ),
    Rule(("HARD_SWISH",), _parser("HardSwishOperationParser"), conditions=(counts(computed=(1,), outputs=(1,)),)),
    Rule(
        ("MEAN", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"),
        _parser("ReduceOperationParser"),
        conditions=(*_REDUCE, ranks((1, 2, 3, 4), (0,))),
    ),
    Rule(
        ("ONE_HOT",),
        _parser("OneHotOperationParser"),
        1,
        conditions=(counts(inputs=(4,)), setting("axis", (-1,), default=-1)),
    ),
    Rule(("PACK",), _parser("PackOperationParser")),
    Rule(("PAD", "PADV2"), _parser("PadOperationParser"), 5, conditions=(_ONE_INPUT, constant(1), _pads)),
    Rule(
        ("MIRROR_PAD",),
        _parser("PadOperationParser"),
        5,
        conditions=(setting("mode", ("REFLECT",), default="REFLECT"), _ONE_INPUT, constant(1), _pads),
    ),
    Rule(("PRELU",), _parser("PReLUOperationParser"), 1, conditions=(constant(1),)),
    Rule(
        ("QUANTIZE",),
        _parser("QuantizeOperationParser"),
        2,
        conditions=(
            _ONE_INPUT,
            require(
                lambda node: node.output() is not None and bool(node.output().scales),
                Refusal("setting", "its output has no scale"),
            ),
        ),
    ),
    Rule(
        ("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU"),
        _parser("ReLUOperationParser"),
        2,
        conditions=(counts(computed=(1,), constants=(0,), outputs=(1,)),),
    ),
    Rule(("RESHAPE",), _parser("ReshapeOperationParser"), 1, conditions=(_ONE_INPUT,)),
    Rule(
        ("RESIZE_BILINEAR",),
        _parser("Resize2DOperationParser"),
        3,
        conditions=(
            _ONE_INPUT,
            require(
                lambda node: not (node.option("align_corners") and node.option("half_pixel_centers")),
                Refusal("setting", "align_corners and half_pixel_centers are both set"),
            ),
        ),
    ),
    Rule(("RESIZE_NEAREST_NEIGHBOR",), _parser("Resize2DOperationParser"), 3, conditions=(_ONE_INPUT,)),
    Rule(("REVERSE_V2",), _parser("ReverseOperationParser"), conditions=_REDUCE),
    Rule(
        ("SELECT", "SELECT_V2"),
        _parser("SelectV2OperationParser"),
        1,
        conditions=(counts(inputs=(3,)), dtypes(("bool", *_FLOAT)), _selects),
    ),
    Rule(
        ("SLICE",), _parser("SliceOperationParser"), 8, conditions=(computed(0), constant(1, 2), dtypes(("int32",), 1))
    ),
    Rule(
        ("SOFTMAX",),
        _parser("SoftmaxOperationParser"),
        4,
        conditions=(counts(computed=(1,), constants=(0,)), setting("beta", (1.0,), default=1.0)),
    ),
    Rule(("SPACE_TO_DEPTH",), _parser("SpaceToDepthOperationParser"), 2, conditions=(_ONE_INPUT, _BLOCK)),
    Rule(("SPLIT",), _parser("SplitOperationParser"), conditions=(constant(0), ranks((1, 2, 3, 4), (1,)))),
    Rule(("SPLIT_V",), _parser("SplitVOperationParser"), conditions=(counts(computed=(1,), constants=(2,)),)),
    Rule(
        ("STRIDED_SLICE",),
        _parser("StridedSliceOperationParser"),
        2,
        conditions=(
            *(setting(mask, (0,), default=0) for mask in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")),
            counts(inputs=(4,)),
            constant(1, 2, 3),
            _slices,
        ),
    ),
    Rule(("TILE",), _parser("TileOperationParser"), conditions=(_ONE_INPUT,)),
    Rule(("TOPK_V2",), _parser("TopKOperationParser"), 1, conditions=(counts(computed=(1,)), constant(1))),
    Rule(("TRANSPOSE",), _parser("TransposeOperationParser"), 9, conditions=(_ONE_INPUT, _permutes)),
    Rule(
        ("TRANSPOSE_CONV",),
        _parser("TransposeConvBuiltinOperationParser"),
        3,
        conditions=(counts(computed=(1, 2)), constant(0)),
    ),
    Rule(("UNPACK",), _parser("UnpackOperationParser"), conditions=(ranks((1, 2, 3, 4), (0,)),)),
)

_ADVICE = (
    (("CONV_3D", "CONV_3D_TRANSPOSE"), "Replace Conv3D by Conv2D per frame, or by a 2D and a 1D convolution in turn."),
    (("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),
    (("EXPAND_DIMS", "SQUEEZE"), "Use `keras.layers.Reshape`."),
    (("SHAPE",), STATIC_ADVICE),
    (("RELU_0_TO_1",), "Write it as `keras.ops.minimum(keras.ops.maximum(x, 0), 1)` in another order, or use relu6."),
    (("ARG_MIN",), "Use `tf.argmax` of the negated tensor."),
    (("LOG_SOFTMAX",), "Export with logits as output, and take the logarithm in the app."),
    (("GATHER_ND",), "Use `keras.ops.take` with a flat list of indices."),
    (("BROADCAST_TO",), "Let the next operator broadcast."),
)

GPU = Table(
    name="gpu",
    title="GPU",
    source="LiteRT, github.com/google-ai-edge/LiteRT, commit f6745779 (2026-08-21): `model_builder.cc` of ML Drift with"
    " `tflite/tools/versioning/gpu_compatibility.cc`",
    rules=_RULES,
    conditions=(ranks((0, 1, 2, 3, 4)), _has_allowed_dtypes, _is_quantized_per_tensor),
    advice=_ADVICE,
    max_partitions=1,
    folds_float16=True,
    notes=("Only the largest subgraph runs on the GPU (`max_delegated_partitions=1`).",),
)
