"""The GPU's table: what LiteRT's own accelerator answered for the same nets, and single operators."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.export.delegates import check_delegate
from keras_kd.export.delegates.checking import check_by_table
from keras_kd.export.delegates.gpu import GPU
from keras_kd.litert import run_on_gpu

# Operators taken, and kinds of refusals: the numbers that LiteRT 2.3.0's accelerator printed (llvmpipe, Mesa 25.0).
ANSWERS = {
    ("conv", "float32"): (4, set()),
    ("conv", "float16"): (4, set()),
    ("conv", "dynamic"): (4, set()),
    ("conv", "int8"): (4, set()),
    ("conv", "int16x8"): (1, {"dtype"}),
    ("conv3d", "float32"): (1, {"operator", "rank"}),
    ("cumsum", "float32"): (1, set()),
    ("five", "float32"): (1, {"rank"}),
    ("global", "float32"): (3, set()),
    ("lstm", "float32"): (1, {"operator", "setting", "partition"}),
    ("normalized", "float32"): (12, set()),
    ("transposed", "float32"): (1, set()),
    ("unrolled", "float32"): (41, set()),
}
IDS = [f"{name}-{form}" for name, form in ANSWERS]


@pytest.mark.parametrize(("name", "form"), ANSWERS, ids=IDS)
def test_the_table_answers_as_the_accelerator_did(net, name, form):
    num_taken, kinds = ANSWERS[name, form]
    found = check_delegate(net(name, form), "gpu")
    assert {one.refusal.kind for one in found.fallbacks} == kinds
    assert found.num_taken == num_taken
    assert found.is_whole == (not kinds)


@pytest.mark.long
@pytest.mark.parametrize(("name", "form"), ANSWERS, ids=IDS)
def test_the_table_answers_as_the_accelerator_does(net, name, form):
    try:
        ran = run_on_gpu(net(name, form))
    except ConfigurationError as error:
        if "found no GPU" in str(error):
            pytest.skip("a Vulkan driver is needed: mesa-vulkan-drivers 25 or newer")
        raise
    found = check_delegate(net(name, form), "gpu")
    assert (ran.is_whole, ran.errors) == (found.is_whole, ())
    assert ran.num_taken in (None, found.num_taken)


def test_an_open_batch_refuses_the_whole_file_if_a_size_is_computed(converted):
    found = check_delegate(converted("conv"), "gpu")
    assert found.num_taken == 0
    assert {one.refusal.kind for one in found.fallbacks} == {"dynamic"}
    assert "static batch" in found.fallbacks[0].refusal.advice
    assert check_delegate(converted("global"), "gpu").is_whole


def test_only_the_largest_subgraph_is_taken(made_file):
    names = ["x", "a", "b", "c", "d"]
    operators = [("RELU", 1, ["x"], ["a"], {}), ("SQUEEZE", 1, ["a"], ["b"], {})]
    operators += [("RELU", 1, ["b"], ["c"], {}), ("TANH", 1, ["c"], ["d"], {})]
    found = check_by_table(made_file(operators, {name: ((1, 4), "float32") for name in names}, ["x"], ["d"]), GPU)
    assert [one.is_taken for one in found.operators] == [False, False, True, True]
    assert [one.refusal.kind for one in found.fallbacks] == ["partition", "operator"]
    assert found.num_partitions == 1
    assert found.share == 0.5


AXIS = np.array([1], "int32")
SLICE = {1: np.zeros(2, "int32"), 2: np.array([1, 2], "int32"), 3: np.ones(2, "int32")}
ROWS = [
    ("ADD", [(1, 4), (1, 4)], {}, None),
    ("ADD", [(1, 4), (1, 4)], {"version": 7}, "version"),
    ("ADD", [(1, 2, 2, 4), (3,)], {}, "size"),
    ("ADD", [(1, 4), (1, 4)], {"dtype": "int16"}, None),
    ("ADD", [(1, 4), (1, 4)], {"dtype": "int64"}, "dtype"),
    ("ADD", [(1, 4), (1, 4)], {"options": {"fused_activation_function": "SIGN_BIT"}}, "setting"),
    ("RELU", [(1, 4)], {"dtype": "int16"}, "dtype"),
    ("RELU", [(1, 1, 1, 1, 4)], {}, "rank"),
    ("RELU_0_TO_1", [(1, 4)], {}, "operator"),
    ("CUMSUM", [(2, 4), (1,)], {"constants": {1: AXIS}}, None),
    ("CUMSUM", [(2, 4), (1,)], {"constants": {1: AXIS}, "dtype": "int8"}, "dtype"),
    ("MEAN", [(1, 4), (1,)], {"constants": {1: AXIS}}, None),
    ("MEAN", [(1, 4), (1,)], {"constants": {1: AXIS.astype("int64")}}, "dtype"),
    ("SOFTMAX", [(1, 4)], {"options": {"beta": 2.0}}, "setting"),
    ("STRIDED_SLICE", [(1, 4), (2,), (2,), (2,)], {"constants": SLICE}, None),
    ("STRIDED_SLICE", [(1, 4), (2,), (2,), (2,)], {"constants": SLICE, "options": {"new_axis_mask": 1}}, "setting"),
    ("STRIDED_SLICE", [(1, 4), (2,), (2,), (2,)], {"constants": SLICE | {3: -SLICE[3]}}, "setting"),
    ("RESHAPE", [(1, 4), (2,)], {"dtype": "float32"}, "dynamic"),
    ("TRANSPOSE", [(1, 4), (2,)], {"constants": {1: np.array([1, 0], "int32")}}, None),
    ("TRANSPOSE", [(4,), (1,)], {"constants": {1: np.array([0], "int32")}}, "rank"),
    ("FULLY_CONNECTED", [(1, 4), (3, 4)], {"constants": {1: np.zeros((3, 4), "float32")}}, None),
    (
        "FULLY_CONNECTED",
        [(1, 4), (3, 4)],
        {"constants": {1: np.zeros((3, 4), "float32")}, "options": {"weights_format": "SHUFFLED4x16INT8"}},
        "setting",
    ),
    ("BATCH_MATMUL", [(1, 2, 4), (1, 4, 2)], {}, None),
    ("BATCH_MATMUL", [(2, 4), (1, 4, 2)], {"constants": {0: np.zeros((2, 4), "float32")}}, "constant"),
    ("GATHER", [(4, 2), (1, 3)], {"constants": {1: np.zeros((1, 3), "int32")}}, "rank"),
    ("CAST", [(1, 4)], {"output": ((1, 4), "int32")}, None),
    ("ARG_MAX", [(1, 4), ()], {"constants": {1: np.array(1, "int32")}, "output": ((1,), "int32")}, None),
    ("ARG_MAX", [(1, 4), ()], {"constants": {1: np.array(1, "int32")}, "output": ((1,), "int64")}, "dtype"),
    ("UNPACK", [(1, 4)], {}, None),
    ("SPACE_TO_DEPTH", [(1, 4, 4, 1)], {"options": {"block_size": 1}}, "setting"),
    ("TRANSPOSE_CONV", [(4,), (1, 1, 1, 1), (1, 2, 2, 1)], {"version": 4}, "dynamic"),
    ("SUB", [(1, 4), (1, 4)], {"constants": {0: AXIS, 1: AXIS}}, "inputs"),
]

ROW_IDS = [f"{place}-{row[0]}" for place, row in enumerate(ROWS)]


@pytest.mark.parametrize(("name", "shapes", "fields", "kind"), ROWS, ids=ROW_IDS)
def test_single_operators(one_operator, name, shapes, fields, kind):
    found = check_by_table(one_operator(name, shapes, **fields), GPU)
    assert [one.refusal.kind for one in found.fallbacks] == ([] if kind is None else [kind])


def test_the_same_tensor_twice_is_refused_unless_added_or_multiplied(made_file):
    tensors = {"x": ((1, 4), "float32"), "y": ((1, 4), "float32")}
    for name, is_taken in (("ADD", True), ("MUL", True), ("SUB", False)):
        file = made_file([(name, 1, ["x", "x"], ["y"], {})], tensors, ["x"], ["y"])
        assert check_by_table(file, GPU).is_whole is is_taken
