"""The Edge TPU: Google Coral's compiler 16.0 and its runtime 14.

Sources: the table "All operations supported by the Edge TPU" of coral.ai, "TensorFlow models on the Edge TPU", as the
documentation of Axis' ARTPEC-7 repeats it for the present runtime (developer.axis.com, ARTPEC-7, "Supported ops") and
github.com/dgist-datalab/Datalab_Intern, `Edge_TPU/convert_model_for_Edge_TPU.md`, for the first one; issues of
github.com/google-coral/edgetpu for versions of operators. The compiler is closed, and nothing of it was run.
"""

from __future__ import annotations

from dataclasses import replace

from keras_kd.export.delegates.conditions import constant, require, setting
from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.result import DelegateCheck
from keras_kd.export.delegates.rules import Condition, Refusal, Rule, Table
from keras_kd.litert import File
from keras_kd.quantities import human_bytes

SRAM_BYTES = 8 * 2**20
_PAGE = "coral.ai, TensorFlow models on the Edge TPU, table of supported operations"
_NOW = f"{_PAGE}; quoted by developer.axis.com, ARTPEC-7, Supported ops"
_FIRST = f"{_PAGE}; quoted by dgist-datalab/Datalab_Intern, convert_model_for_Edge_TPU.md (first runtime)"
_ISSUE = "github.com/google-coral/edgetpu/issues/"
_EIGHT_BITS = ("int8", "uint8")
_QUANTIZE = 'Export with `format="int8"` and `calibration=`.'
_NO_ACTIVATION = setting("fused_activation_function", ("NONE",), default="NONE")

# Versions with which the compiler 16.0.384591198 refused a whole file: "Didn't find op for builtin opcode".
_REFUSED_VERSIONS = {
    "CONV_2D": (6, f"{_ISSUE}631"),
    "EXP": (2, "github.com/google-coral/libedgetpu/issues/71"),
    "QUANTIZE": (3, f"{_ISSUE}879"),
    "TRANSPOSE_CONV": (4, f"{_ISSUE}845"),
}
_VERSION_ADVICE = (
    "Convert with an older TensorFlow, or remove what needs the new version (a bias of Conv2DTranspose, for example)."
)


def _has_known_version(node: Node) -> Refusal | None:
    limit, source = _REFUSED_VERSIONS.get(node.name, (None, ""))
    if limit is None or node.operator.version < limit:
        return None
    reason = f"{node.name} version {node.operator.version} is unknown to compiler 16.0, from version {limit} ({source})"
    return Refusal("version", reason, _VERSION_ADVICE)


def _has_fixed_sizes(node: Node) -> Refusal | None:
    if any(one is not None and None in one.open_shape for one in (*node.inputs, *node.outputs)):
        advice = "Export with a static batch, which is `export_tflite`'s default."
        return Refusal("dynamic", "a tensor has an open dimension, and sizes have to be constant", advice)
    return None


def _is_quantized(node: Node) -> Refusal | None:
    """Computed tensors have 8 bits; an input that only says where, such as an axis, may have others."""
    for one in (*node.inputs[:2], *node.outputs):
        if one is None or node.is_stored(one) or one.dtype in _EIGHT_BITS:
            continue
        return Refusal("dtype", f"a tensor of dtype {one.dtype}, and the delegate takes 8-bit integers", _QUANTIZE)
    if node.num_constants and node.name in _WEIGHTED and not _has_8_bit_weights(node):
        return Refusal("dtype", "its weights are not 8-bit integers", _QUANTIZE)
    return None


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def _has_8_bit_weights(node: Node) -> bool:
    weights = node.input(1)
    return weights is not None and weights.dtype in _EIGHT_BITS


def _has_three_dimensions(node: Node) -> Refusal | None:
    for one in (*node.inputs, *node.outputs):
        if one is not None and not node.is_stored(one) and any(size > 1 for size in one.shape[:-3]):
            advice = "Export with a batch of 1, and fold further dimensions into height, width or channels."
            return Refusal("rank", f"shape {one.shape}: only the 3 innermost dimensions may be above 1", advice)
    return None


def _joins_with_zeros(node: Node) -> Refusal | None:
    constants = [one for one in node.inputs if one is not None and node.is_stored(one)]
    if constants and (len(node.inputs) != 2 or any(node.file.data(one).strip(b"\0") for one in constants)):
        return Refusal("constant", "a constant input that is not all zeros, or with more than one other input")
    return None


def _keeps_batch(place: int, what: str) -> Condition:
    """A constant axis input does not name the batch dimension."""

    def check(node: Node) -> Refusal | None:
        axes, first = node.integers(place), node.input(0)
        rank = len(first.shape) if first is not None else 0
        if axes is not None and rank and any(axis % rank == 0 for axis in axes):
            return Refusal("setting", f"it {what} the batch dimension")
        return None

    return check


def _reduces_depth_by_four(node: Node) -> Refusal | None:
    first, axes = node.input(0), node.integers(1)
    if first is None or axes is None or len(first.shape) < 2:
        return None
    depth = len(first.shape) - 1
    if depth in [axis % len(first.shape) for axis in axes] and first.shape[-1] % 4:
        advice = f"Use a multiple of 4 channels; there are {first.shape[-1]}."
        return Refusal("size", "a mean over the channels whose number is not a multiple of 4", advice)
    return None


def _pads_no_batch(node: Node) -> Refusal | None:
    paddings = node.integers(1)
    if paddings is not None and any(paddings[:2]):
        return Refusal("setting", "it pads the batch dimension")
    return None


def _has_vector_alpha(node: Node) -> Refusal | None:
    alpha = node.input(1)
    if alpha is not None and any(size > 1 for size in alpha.shape[:-1]):
        return Refusal("size", f"an alpha of shape {alpha.shape}", "Use `PReLU(shared_axes=[1, 2])`.")
    return None


def _dilates_evenly(node: Node) -> Refusal | None:
    if node.number("dilation_w_factor", 1) == node.number("dilation_h_factor", 1):
        return None
    return Refusal("setting", "different dilations in x and y", "Use one `dilation_rate` for both.")


def _outputs_a_vector(node: Node) -> Refusal | None:
    output = node.output()
    if output is not None and any(size > 1 for size in output.shape[:-1]):
        advice = "Apply Dense to one vector (after Flatten or pooling), or use a 1x1 convolution."
        return Refusal("rank", f"an output of shape {output.shape}, which has to be one-dimensional", advice)
    return None


def _is_small_softmax(node: Node) -> Refusal | None:
    first = node.input(0)
    if first is not None and first.num_elements > 16_000:
        return Refusal("size", f"{first.num_elements:,} elements, and the delegate takes 16,000")
    return None


def _squeezes_leading(node: Node) -> Refusal | None:
    first, output = node.input(0), node.output()
    if first is None or output is None:
        return None
    removed = len(first.shape) - len(output.shape)
    if any(size != 1 for size in first.shape[:removed]):
        return Refusal("size", f"it squeezes shape {first.shape} elsewhere than at the front", "Use Reshape.")
    return None


def _has_unit_strides(node: Node) -> Refusal | None:
    if any(step != 1 for step in node.integers(3) or (1,)):
        return Refusal("setting", "a stride other than 1", "Use a strided convolution or pooling.")
    return None


_RULES = (
    Rule(
        tuple("ADD EXPAND_DIMS L2_NORMALIZATION LOGISTIC MAXIMUM MINIMUM MUL QUANTIZE RELU RELU6 RELU_N1_TO_1".split()),
        _NOW,
    ),
    Rule(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _NOW, conditions=(_NO_ACTIVATION,)),
    Rule(("CONCATENATION",), _NOW, conditions=(_NO_ACTIVATION, _joins_with_zeros)),
    Rule(("CONV_2D", "DEPTHWISE_CONV_2D"), _NOW, conditions=(constant(1, 2, advice=""), _dilates_evenly)),
    Rule(
        ("FULLY_CONNECTED",),
        _NOW,
        conditions=(
            setting("weights_format", ("DEFAULT",), default="DEFAULT"),
            constant(1, 2, advice="Two computed inputs are a product of activations, as in attention."),
            _outputs_a_vector,
        ),
    ),
    Rule(("UNIDIRECTIONAL_SEQUENCE_LSTM",), _NOW),
    Rule(("MEAN",), _NOW, conditions=(_keeps_batch(1, "reduces"), _reduces_depth_by_four)),
    Rule(("REDUCE_MAX", "REDUCE_MIN"), _NOW, conditions=(_keeps_batch(1, "reduces"),)),
    Rule(
        ("PACK",),
        _NOW,
        conditions=(require(lambda node: node.number("axis") != 0, Refusal("setting", "it packs along the batch")),),
    ),
    Rule(("PAD",), _NOW, conditions=(_pads_no_batch,)),
    Rule(("PRELU",), _NOW, conditions=(_has_vector_alpha,)),
    Rule(("RESHAPE", "RESIZE_BILINEAR"), _NOW),
    Rule(("RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPACE_TO_DEPTH", "SPLIT", "SUB", "TANH"), _FIRST),
    Rule(("SOFTMAX",), _FIRST, conditions=(_is_small_softmax,)),
    Rule(("SQUEEZE",), _FIRST, conditions=(_squeezes_leading,)),
    Rule(
        ("STRIDED_SLICE",),
        _FIRST,
        conditions=(
            _has_unit_strides,
            setting("ellipsis_mask", (0,), default=0),
            setting("new_axis_mask", (0,), default=0),
        ),
    ),
    Rule(("TRANSPOSE_CONV",), f"{_ISSUE}64, which quotes the page", conditions=(constant(0, 1),)),
)

EDGE_TPU = Table(
    name="edgetpu",
    title="Edge TPU",
    source=f"{_PAGE}, for compiler 16.0 and runtime 14, as quoted by developer.axis.com (ARTPEC-7, Supported ops);"
    " versions: issues 631, 845 and 879 of google-coral/edgetpu",
    rules=_RULES,
    conditions=(_is_quantized, _has_three_dimensions),
    whole=(_has_known_version, _has_fixed_sizes),
    advice=(
        (("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),
        (("BATCH_MATMUL",), "Products of two activations, as in attention, stay on the CPU."),
        (("HARD_SWISH", "LEAKY_RELU", "ELU", "GELU"), "Use relu or relu6."),
        (("CONV_3D",), "Replace Conv3D by Conv2D."),
        (("DEQUANTIZE",), _QUANTIZE),
    ),
    max_partitions=1,
    takes_first=True,
    tolerates_ends=True,
    notes=(
        "Everything after the first unsupported operator runs on the CPU (the compiler's default).",
        "The compiler may still refuse large reshapes and resizes, which its documentation does not quantify.",
    ),
)


def parameter_bytes(file: File, found: DelegateCheck) -> int:
    """The bytes of the constants that the taken operators read, each counted once."""
    buffers = {}
    for one in found.operators:
        graph = file.graphs[one.graph]
        for index in graph.operators[one.place].inputs if one.is_taken else ():
            if index >= 0:
                tensor = graph.tensors[index]
                buffers[tensor.buffer] = file.stored_bytes(tensor)
    return sum(buffers.values())


def on_chip_note(file: File, found: DelegateCheck) -> DelegateCheck:
    """The same check with an estimate of whether the parameters fit into the chip's memory."""
    needed = parameter_bytes(file, found)
    if not needed:
        return found
    fits = "fit into" if needed <= SRAM_BYTES else "exceed"
    note = (
        f"Estimate: {human_bytes(needed)} of parameters {fits} the chip's {human_bytes(SRAM_BYTES)}; the compiler's"
        " program needs a part of them."
    )
    if needed > SRAM_BYTES:
        note += " The rest is streamed from the host for each run, which is slower."
    return replace(found, notes=(note, *found.notes))
