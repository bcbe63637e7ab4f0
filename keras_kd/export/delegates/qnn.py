"""QNN: LiteRT's compiler for the NPU of Qualcomm's chips (AI Engine Direct)."""

from __future__ import annotations

from keras_kd.export.delegates.rules import Rule, Table

_COMPOSE = "litert/vendors/qualcomm/compiler/qnn_compose_graph.cc, GetOpBuilders"
_OPERATORS = tuple(
    "ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST CEIL "
    "CONCATENATION CONV_2D CONV_3D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV "
    "DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER "
    "GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL "
    "LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD "
    "MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN "
    "RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND "
    "RSQRT SCATTER_ND SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V "
    "SQRT SQUARE SQUARED_DIFFERENCE STABLEHLO_COMPOSITE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE "
    "TRANSPOSE_CONV UNPACK".split()
)

QNN = Table(
    name="qnn",
    title="Qualcomm NPU",
    source=f"LiteRT, github.com/google-ai-edge/LiteRT, commit f6745779 (2026-08-21): `{_COMPOSE}`",
    rules=(Rule(_OPERATORS, _COMPOSE),),
    is_static=False,
    advice=(
        (("WHILE", "IF"), "Use `unroll=True` for recurrent layers."),
        (("REDUCE_PROD",), "Multiply the elements explicitly."),
        (("EXPAND_DIMS", "SQUEEZE"), "Use `keras.layers.Reshape`."),
    ),
    notes=(
        "By names only: QNN itself checks dtypes, ranks and sizes of each operator for its chip, and may refuse more.",
        "An open dimension is compiled as 1 (`ConvertTensor` in the same file).",
    ),
)
