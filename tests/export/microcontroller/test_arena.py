"""The size of the arena, against what LiteRT for Microcontrollers allocated for the same networks."""

import subprocess
import sys

import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ExportError
from keras_kd.export.microcontroller.arena import arena_bytes
from keras_kd.export.microcontroller.operators import OPERATORS, required_operators
from keras_kd.litert import File, Graph, StoredOperator, StoredTensor

# Measured with the package tflite_micro 0.dev20261023182759 (64-bit, reference kernels): the head of its arena, which
# holds the tensors, and the smallest arena (to 16 bytes) in which the network runs.
MEASURED = [
    ("student", "float32", 3328, 5872),
    ("student", "int8", 832, 3792),
    ("student", "int16x8", 1664, 4368),
    ("residual", "int8", 6144, 8768),
    ("transposed", "float32", 4032, 5296),
    ("transposed", "int8", 3680, 5008),
    ("norm", "int8", 160, 4960),
]


@pytest.mark.parametrize(("name", "format", "head", "smallest"), MEASURED)
def test_the_arena_is_large_enough_and_its_tensors_are_planned_exactly(net, name, format, head, smallest):
    arena, planned = arena_bytes(litert.read_file(net(name, format)))
    assert planned == head
    assert smallest <= arena <= 1.25 * smallest


def test_tflm_runs_in_this_arena_and_agrees_with_litert(net, tmp_path):
    """Where the package tflite_micro is installed; it has no version that a requirement could name."""
    pytest.importorskip("tflite_micro")
    content = net("student", "int8")
    model = litert.Model(content, num_threads=1)
    contents, _ = model.encode(np.random.default_rng(3).normal(size=(20, 8, 8, 1)).astype("float32"))
    (given,) = contents.values()
    expected = np.concatenate([next(iter(model.run({"image": row[None]}).values())) for row in given])
    (tmp_path / "net.tflite").write_bytes(content)
    np.save(tmp_path / "inputs.npy", given)
    code = f"""
import numpy as np
from tflite_micro.python.tflite_micro import runtime
net = runtime.Interpreter.from_file("net.tflite", arena_size={arena_bytes(litert.read_file(content))[0]})
outputs = []
for row in np.load("inputs.npy"):
    net.set_input(row[None], 0)
    net.invoke()
    outputs.append(net.get_output(0))
np.save("outputs.npy", np.concatenate(outputs))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.abs(np.load(tmp_path / "outputs.npy").astype(int) - expected).max() <= 1


# Graphs by hand.


def tensor(num_bytes, **settings):
    return StoredTensor("", "int8", (num_bytes,), (num_bytes,), **settings)


def file(*graphs):
    return File(3, "", graphs, (), ((0, 0), (0, 100)), {}, bytes(100))


def operator(inputs, outputs, name="ADD"):
    return StoredOperator(name, 1, False, inputs, outputs)


def test_constants_and_variables_are_not_planned():
    tensors = (tensor(16), tensor(64, buffer=1), tensor(32, is_variable=True), tensor(48))
    plain = Graph("", tensors, (operator((0, 1, 2, -1), (3,)),), (0,), (3,))
    assert arena_bytes(file(plain))[1] == 16 + 48


def test_the_graphs_of_control_flow_are_planned_side_by_side():
    one = Graph("", (tensor(20), tensor(100)), (operator((0,), (1,)),), (0,), (1,))
    (alone, planned), (both, planned_both) = arena_bytes(file(one)), arena_bytes(file(one, one))
    assert (planned, planned_both) == (32 + 112, 2 * (32 + 112))
    assert alone < both < 2 * alone


def test_an_input_that_no_operator_reads_and_a_graph_without_operators():
    empty = Graph("", (tensor(20),), (), (0,), (0,))
    assert arena_bytes(file(empty))[1] == 32
    assert arena_bytes(file())[1] == 0


def test_transposed_copies_of_a_product_are_kept():
    product = Graph(
        "", (tensor(4096), tensor(8192), tensor(16)), (operator((0, 1), (2,), "BATCH_MATMUL"),), (0, 1), (2,)
    )
    plain = Graph("", product.tensors, (operator((0, 1), (2,)),), (0, 1), (2,))
    assert arena_bytes(file(product))[0] - arena_bytes(file(plain))[0] == 4096 + 8192


def test_operators_of_damaged_files_without_inputs_and_outputs():
    for name in OPERATORS:
        assert arena_bytes(file(Graph("", (), (operator((), (), name),), (), ())))[1] == 0


def test_custom_operators_and_a_bias_of_int8_are_refused():
    """TFLM reads a bias as int32, beyond its end."""
    tensors = (tensor(16), tensor(64), tensor(4))
    dense = Graph("", tensors, (operator((0, 1, 2), (0,), "FULLY_CONNECTED"),), (0,), (0,))
    custom = Graph("", tensors, (StoredOperator("Flex", 1, True, (0,), (0,)),), (0,), (0,))
    with pytest.raises(ExportError, match="FULLY_CONNECTED has a bias of int8; Flex is a custom operator"):
        required_operators(file(dense, custom))
    with pytest.raises(ExportError, match="it has no operators"):
        required_operators(file())
