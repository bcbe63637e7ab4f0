"""The Edge TPU's table: the compiler's documented limitations."""

import numpy as np
import pytest

from keras_kd.export.delegates import check_delegate
from keras_kd.export.delegates.checking import check_by_table
from keras_kd.export.delegates.edgetpu import EDGE_TPU, SRAM_BYTES, on_chip_note, parameter_bytes


def test_an_int8_net_is_taken_whole(net):
    found = check_delegate(net("softmax", "int8"), "edgetpu")
    assert found.is_whole
    assert found.num_partitions == 1
    assert found.notes[0].startswith("Estimate: ")


@pytest.mark.parametrize("form", ["float32", "float16", "dynamic", "int16x8"])
def test_other_formats_are_not_taken_at_all(net, form):
    found = check_delegate(net("conv", form), "edgetpu")
    assert found.num_taken == 0
    assert {one.refusal.kind for one in found.fallbacks} <= {"dtype", "operator"}
    assert 'format="int8"' in found.fallbacks[0].refusal.advice


def test_conversions_of_float_inputs_and_outputs_stay_on_the_cpu_and_are_no_fallbacks(made_file):
    scaled = {"scales": (0.1,), "zero_points": (0,)}
    tensors = {"x": ((1, 4), "float32"), "a": ((1, 4), "int8", scaled)}
    tensors |= {"b": ((1, 4), "int8", scaled), "y": ((1, 4), "float32")}
    operators = [("QUANTIZE", 1, ["x"], ["a"], {}), ("RELU", 1, ["a"], ["b"], {}), ("DEQUANTIZE", 1, ["b"], ["y"], {})]
    found = check_by_table(made_file(operators, tensors, ["x"], ["y"]), EDGE_TPU)
    assert [one.is_taken for one in found.operators] == [False, True, False]
    assert [one.is_tolerated for one in found.operators] == [True, False, True]
    assert found.is_whole


def test_open_dimensions_refuse_the_whole_file(made_file):
    opened = {"open_shape": (None, 4)}
    tensors = {"x": ((1, 4), "int8", opened), "a": ((1, 4), "int8", opened), "b": ((1, 4), "int8")}
    operators = [("RELU", 1, ["x"], ["a"], {}), ("RELU", 1, ["b"], ["b"], {})]
    found = check_by_table(made_file(operators, tensors, ["x"], ["a"]), EDGE_TPU)
    assert found.num_taken == 0
    assert [one.refusal.kind for one in found.fallbacks] == ["dynamic", "dynamic"]


def test_everything_after_the_first_subgraph_runs_on_the_cpu(made_file):
    names = ["x", "a", "b", "c", "d"]
    operators = [("RELU", 1, ["x"], ["a"], {}), ("ELU", 1, ["a"], ["b"], {})]
    operators += [("RELU", 1, ["b"], ["c"], {}), ("TANH", 1, ["c"], ["d"], {})]
    found = check_by_table(made_file(operators, {name: ((1, 4), "int8") for name in names}, ["x"], ["d"]), EDGE_TPU)
    assert [one.is_taken for one in found.operators] == [True, False, False, False]
    assert [one.refusal.kind for one in found.fallbacks] == ["operator", "partition", "partition"]


@pytest.mark.parametrize(
    ("name", "refused"), [("CONV_2D", 6), ("EXP", 2), ("QUANTIZE", 3), ("TRANSPOSE_CONV", 4)], ids=str
)
def test_a_version_that_the_compiler_does_not_know_refuses_the_whole_file(made_file, name, refused):
    def taken(version):
        operators = [("RELU", 1, ["x"], ["a"], {}), (name, version, ["w", "w", "a"], ["b"], {})]
        tensors = {key: ((1, 4), "int8") for key in "xabw"}
        file = made_file(operators, tensors, ["x"], ["b"], {"w": np.ones((1, 4), "int8")})
        return check_by_table(file, EDGE_TPU)

    assert taken(refused - 1).operators[0].is_taken
    assert taken(refused).num_taken == 0
    assert [one.refusal.kind for one in taken(refused).operators] == ["version", "version"]
    assert "issues/" in taken(refused).operators[0].refusal.reason


WEIGHTS = np.ones((3, 3, 4, 8), "int8")
VECTOR = np.zeros(4, "int32")
CONV = {"constants": {1: WEIGHTS, 2: VECTOR}}
ROWS = [
    ("RELU", [(1, 5, 5, 4)], {}, None),
    ("RELU", [(2, 5, 5, 4)], {}, "rank"),
    ("RELU", [(1, 1, 5, 5, 4)], {}, None),
    ("CUMSUM", [(1, 4), ()], {"constants": {1: np.array(1, "int32")}}, "operator"),
    ("CONV_3D", [(1, 2, 2, 2, 1)], {}, "operator"),
    ("WHILE", [(1, 4)], {}, "operator"),
    ("CONV_2D", [(1, 8, 8, 4), (8, 3, 3, 4), (4,)], CONV, None),
    ("CONV_2D", [(1, 8, 8, 4), (8, 3, 3, 4), (4,)], CONV | {"options": {"dilation_w_factor": 2}}, "setting"),
    ("CONV_2D", [(1, 8, 8, 4), (8, 3, 3, 4)], {"constants": {1: WEIGHTS.astype("float32")}}, "dtype"),
    ("CONV_2D", [(1, 8, 8, 4), (8, 3, 3, 4), (4,)], {"constants": {1: WEIGHTS}}, "constant"),
    ("MAX_POOL_2D", [(1, 8, 8, 4)], {"options": {"fused_activation_function": "RELU"}}, "setting"),
    ("MEAN", [(1, 8, 8, 4), (2,)], {"constants": {1: np.array([1, 2], "int32")}}, None),
    ("MEAN", [(1, 8, 8, 4), (1,)], {"constants": {1: np.array([0], "int32")}}, "setting"),
    ("MEAN", [(1, 8, 8, 4), (1,)], {"constants": {1: np.array([3], "int32")}}, None),
    ("MEAN", [(1, 8, 8, 3), (1,)], {"constants": {1: np.array([-1], "int32")}}, "size"),
    ("SOFTMAX", [(1, 16_000)], {}, None),
    ("SOFTMAX", [(1, 16_001)], {}, "size"),
    ("FULLY_CONNECTED", [(1, 4), (8, 4)], {"constants": {1: np.ones((8, 4), "int8")}}, None),
    (
        "FULLY_CONNECTED",
        [(1, 5, 4), (8, 4)],
        {"constants": {1: np.ones((8, 4), "int8")}, "output": ((1, 5, 8), "int8")},
        "rank",
    ),
    ("CONCATENATION", [(1, 4), (1, 4)], {"constants": {1: np.zeros((1, 4), "int8")}}, None),
    ("CONCATENATION", [(1, 4), (1, 4)], {"constants": {1: np.ones((1, 4), "int8")}}, "constant"),
    ("PACK", [(1, 4), (1, 4)], {"options": {"axis": 0}}, "setting"),
    ("PAD", [(1, 4), (2, 2)], {"constants": {1: np.array([[0, 0], [1, 1]], "int32")}}, None),
    ("PAD", [(1, 4), (2, 2)], {"constants": {1: np.array([[1, 0], [1, 1]], "int32")}}, "setting"),
    ("PRELU", [(1, 4, 4, 2), (4, 4, 2)], {"constants": {1: np.ones((4, 4, 2), "int8")}}, "size"),
    ("SQUEEZE", [(1, 5, 10)], {"output": ((5, 10), "int8")}, None),
    ("SQUEEZE", [(5, 1, 10)], {"output": ((5, 10), "int8")}, "size"),
]


IDS = [f"{place}-{row[0]}" for place, row in enumerate(ROWS)]


@pytest.mark.parametrize(("name", "shapes", "fields", "kind"), ROWS, ids=IDS)
def test_single_operators(one_operator, name, shapes, fields, kind):
    found = check_by_table(one_operator(name, shapes, dtype="int8", **fields), EDGE_TPU)
    assert [one.refusal.kind for one in found.fallbacks] == ([] if kind is None else [kind])


def test_the_estimate_counts_each_constant_once(made_file):
    tensors = {name: ((1, 4), "int8") for name in "xab"} | {"w": ((4, 4), "int8")}
    operators = [("FULLY_CONNECTED", 1, ["x", "w"], ["a"], {}), ("FULLY_CONNECTED", 1, ["a", "w"], ["b"], {})]
    file = made_file(operators, tensors, ["x"], ["b"], {"w": np.ones((4, 4), "int8")})
    found = check_by_table(file, EDGE_TPU)
    assert parameter_bytes(file, found) == 16
    assert "16 B of parameters fit into the chip's 8 MiB" in on_chip_note(file, found).notes[0]


def test_parameters_above_the_memory_are_streamed(one_operator):
    weights = np.zeros((1, SRAM_BYTES + 1), "int8")
    file = one_operator(
        "FULLY_CONNECTED",
        [(1, SRAM_BYTES + 1), weights.shape],
        dtype="int8",
        constants={1: weights},
        output=((1, 1), "int8"),
    )
    assert "exceed" in on_chip_note(file, check_by_table(file, EDGE_TPU)).notes[0]
