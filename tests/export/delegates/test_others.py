"""Core ML, NNAPI, Hexagon and QNN: known nets, and single operators by their sources."""

import numpy as np
import pytest

from keras_kd.export.delegates import TABLES, check_delegate
from keras_kd.export.delegates.checking import check_by_table

FLOAT = np.ones((3, 4), "float32")
BYTES = np.ones((3, 4), "int8")
BIAS = np.zeros(3, "int32")
PAD = np.zeros((4, 2), "int32")
POSITIONS = {1: np.array([1, 2], "int32")}


@pytest.mark.parametrize(
    ("delegate", "name", "form", "kinds"),
    [
        ("coreml", "global", "float32", set()),
        ("coreml", "conv", "float16", {"operator", "partition"}),
        ("coreml", "conv", "int8", {"dtype"}),
        ("coreml", "lstm", "float32", {"operator", "partition"}),
        ("nnapi", "conv", "float32", set()),
        ("nnapi", "conv", "float16", set()),
        ("nnapi", "conv", "int8", set()),
        ("nnapi", "conv3d", "float32", {"operator", "rank"}),
        ("nnapi", "lstm", "float32", {"operator"}),
        ("hexagon", "conv", "int8", {"setting"}),  # Dense is quantized per channel
        ("hexagon", "conv", "float32", {"dtype"}),
        ("hexagon", "conv", "int16x8", {"dtype"}),
        ("qnn", "conv3d", "float32", set()),
        ("qnn", "cumsum", "float32", set()),
        ("qnn", "lstm", "float32", {"operator"}),
    ],
)
def test_known_nets(net, delegate, name, form, kinds):
    found = check_delegate(net(name, form), delegate)
    assert {one.refusal.kind for one in found.fallbacks} == kinds


ROWS = [
    ("coreml", "ADD", [(1, 4, 4, 2)] * 2, {}, None),
    ("coreml", "ADD", [(1, 4, 4, 2), (1, 4, 1, 2)], {}, "size"),
    ("coreml", "ADD", [(2, 1, 1, 4), (1, 1, 1, 4)], {}, "size"),
    ("coreml", "CONCATENATION", [(1, 4, 4, 2)] * 2, {"options": {"axis": 3}}, None),
    ("coreml", "CONCATENATION", [(1, 4, 4, 2)] * 2, {"options": {"axis": 1}}, "setting"),
    ("coreml", "FULLY_CONNECTED", [(1, 4), (3, 4)], {"constants": {1: FLOAT}}, None),
    ("coreml", "FULLY_CONNECTED", [(2, 4), (3, 4)], {"constants": {1: FLOAT}}, "size"),
    ("coreml", "MEAN", [(1, 4, 4, 2), (2,)], {"constants": POSITIONS, "options": {"keep_dims": True}}, None),
    ("coreml", "MEAN", [(1, 4, 4, 2), (2,)], {"constants": POSITIONS}, "setting"),
    ("coreml", "PAD", [(1, 4, 4, 2), (4, 2)], {"constants": {1: PAD}}, None),
    ("coreml", "PAD", [(1, 4, 4, 2), (4, 2)], {"constants": {1: PAD + 1}}, "setting"),
    ("coreml", "RESHAPE", [(1, 4)], {}, "operator"),
    ("coreml", "SUB", [(1, 4)] * 2, {}, "operator"),
    ("nnapi", "ADD", [(1, 4)] * 2, {"version": 3}, "version"),
    ("nnapi", "ADD", [(1, 4)] * 2, {"dtype": "int16"}, "dtype"),
    ("nnapi", "CONV_2D", [(1, 4, 4, 2), (3, 1, 1, 2)], {"constants": {1: FLOAT}}, "inputs"),
    ("nnapi", "MEAN", [(4,), (1,)], {"constants": POSITIONS, "output": ((), "float32")}, "rank"),
    ("nnapi", "UNPACK", [(2, 4)], {"options": {"axis": 1}}, "setting"),
    ("nnapi", "UNPACK", [(2, 4)], {"options": {"axis": 0}}, None),
    ("nnapi", "BATCH_MATMUL", [(2, 3, 4), (1, 4, 3)], {}, "size"),
    ("nnapi", "GELU", [(1, 4)], {}, "operator"),
    ("hexagon", "FULLY_CONNECTED", [(1, 4), (3, 4), (3,)], {"constants": {1: BYTES, 2: BIAS}, "dtype": "int8"}, None),
    ("hexagon", "FULLY_CONNECTED", [(1, 4), (3, 4)], {"constants": {1: BYTES}, "dtype": "int8"}, "inputs"),
    ("hexagon", "RELU", [(1, 4)], {"dtype": "int8"}, "version"),
    ("hexagon", "RELU", [(1, 4)], {"dtype": "int8", "version": 2}, None),
    ("hexagon", "RELU", [(1, 4)], {"version": 2}, "dtype"),
    ("hexagon", "RELU", [(1, 1, 1, 1, 4)], {"dtype": "int8", "version": 2}, "rank"),
    (
        "hexagon",
        "MAX_POOL_2D",
        [(1, 20, 20, 2)],
        {"dtype": "int8", "options": {"padding": "SAME", "filter_height": 13, "filter_width": 2}},
        "size",
    ),
    ("qnn", "EXPAND_DIMS", [(1, 4)], {}, "operator"),
]
IDS = [f"{place}-{row[0]}-{row[1]}" for place, row in enumerate(ROWS)]


@pytest.mark.parametrize(("delegate", "name", "shapes", "fields", "kind"), ROWS, ids=IDS)
def test_single_operators(one_operator, delegate, name, shapes, fields, kind):
    table = TABLES[delegate]
    found = check_by_table(one_operator(name, shapes, **fields), table)
    kinds = [one.refusal.kind for one in found.fallbacks]
    alone = ["partition"] if table.min_operators > 1 else []  # a subgraph of one operator stays on the CPU
    assert kinds == (alone if kind is None else [kind])


def test_nnapi_is_called_deprecated(net):
    assert "deprecated since Android 15" in str(check_delegate(net("conv"), "nnapi"))


def test_float16_constants_are_read_without_their_dequantization(net):
    found = check_delegate(net("conv", "float16"), "nnapi")
    assert "DEQUANTIZE" not in [one.name for one in found.operators]
    assert found.is_whole


@pytest.mark.parametrize("delegate", ["coreml", "nnapi", "hexagon"])
def test_a_computed_size_refuses_the_whole_file(converted, delegate):
    found = check_delegate(converted("conv"), delegate)
    assert found.num_taken == 0
    assert {one.refusal.kind for one in found.fallbacks} == {"dynamic"}
