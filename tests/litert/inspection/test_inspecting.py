"""What an inspection says about a file, against LiteRT's own tools and against what was written into it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from handmade import buffer, model, serialized, tensor

from keras_kd.errors import ConfigurationError
from keras_kd.litert import read_file
from keras_kd.litert.inspection import inspect_tflite
from keras_kd.litert.inspection.buffers import constants, duplicates

layers = keras.layers


@pytest.fixture(scope="module", params=["float32", "float16", "dynamic", "int8", "int16x8"])
def form(request):
    return request.param


@pytest.fixture(scope="module")
def content(form, export_bytes):
    keras.utils.set_random_seed(0)
    image, size = keras.Input((8, 8, 2), name="image"), keras.Input((3,), name="size")
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Concatenate()([layers.Flatten()(layers.DepthwiseConv2D(3)(x)), size])
    net = keras.Model([image, size], {"sure": layers.Dense(3, activation="softmax")(x), "raw": layers.Dense(20)(x)})
    rng = np.random.default_rng(0)
    samples = {"image": rng.random((20, 8, 8, 2), "float32"), "size": rng.random((20, 3), "float32")}
    return export_bytes(net, format=form, calibration=samples)


def test_constants_are_the_buffers_of_the_schema(content):
    theirs = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    inspection = inspect_tflite(content)
    (graph,) = theirs.subgraphs
    sizes = {one.buffer: len(theirs.buffers[one.buffer].data) for one in graph.tensors if has(theirs, one.buffer)}
    assert sorted(one.num_bytes for one in inspection.constants) == sorted(sizes.values())
    assert inspection.constant_bytes == sum(sizes.values())
    assert [one.num_bytes for one in inspection.constants] == sorted(sizes.values(), reverse=True)
    assert inspection.file_bytes == len(content) == inspection.constant_bytes + inspection.other_bytes
    for one in inspection.constants:
        (found,) = {t.buffer for t in graph.tensors if t.name.decode() == one.name}
        assert (tuple(next(t.shape for t in graph.tensors if t.buffer == found)), one.num_bytes) == (
            one.shape,
            sizes[found],
        )


def has(theirs, index):
    data = theirs.buffers[index].data
    return data is not None and len(data) > 0


def test_operators_are_those_of_the_interpreter(content):
    interpreter = Interpreter(model_content=content)
    expected = [one for one in interpreter._get_ops_details() if one["op_name"] != "DELEGATE"]
    details = {one["index"]: one for one in interpreter.get_tensor_details()}
    (graph,) = inspect_tflite(content).graphs
    assert [one.name for one in graph.operators] == [one["op_name"] for one in expected]
    for mine, one in zip(graph.operators, expected, strict=True):
        for tensors, indices in ((mine.inputs, one["inputs"]), (mine.outputs, one["outputs"])):
            assert [t and t.index for t in tensors] == [None if index < 0 else index for index in indices]
            for found in filter(None, tensors):
                assert found.shape == tuple(details[found.index]["shape"])
                assert found.dtype == np.dtype(details[found.index]["dtype"]).name


WEIGHTS = {
    "float32": ("float32", "none"),
    "float16": ("float16", "none"),
    "dynamic": ("int8", "per channel"),
    "int8": ("int8", "per channel"),
    "int16x8": ("int8", "per channel"),
}


def test_weights_and_their_quantization(content, form):
    operators = {one.name: one for one in inspect_tflite(content).graphs[0].operators}
    conv = operators["CONV_2D"]
    is_quantized = form in ("int8", "int16x8")  # small kernels stay in float in a dynamic file
    if form != "dynamic":
        assert (conv.weights.dtype, conv.quantization) == WEIGHTS[form]
        assert conv.num_channels == (16 if is_quantized else 0)
        bias = {"float32": 4, "float16": 2, "int8": 4, "int16x8": 8}[form]
        assert conv.constant_bytes == 16 * 3 * 3 * 2 * {"float32": 4, "float16": 2}.get(form, 1) + 16 * bias
    if form == "float16":
        assert operators["DEQUANTIZE"].constant_bytes == 0


def test_dynamic_weights(export_bytes):
    net = keras.Sequential([keras.Input((64,)), layers.Dense(32)])
    (operator,) = inspect_tflite(export_bytes(net, format="dynamic")).graphs[0].operators
    assert (operator.weights.dtype, operator.outputs[0].dtype) == ("int8", "float32")
    assert operator.constant_bytes == 64 * 32  # a bias of zeros is left out


def test_signature(content, form):
    (signature,) = inspect_tflite(content).signatures
    assert (signature.key, signature.graph) == ("serving_default", 0)
    shapes = {name: one.shape for name, one in (signature.inputs | signature.outputs).items()}
    assert shapes == {"image": (1, 8, 8, 2), "size": (1, 3), "sure": (1, 3), "raw": (1, 20)}
    runner = Interpreter(model_content=content).get_signature_runner()
    for name, details in (runner.get_input_details() | runner.get_output_details()).items():
        one = (signature.inputs | signature.outputs)[name]
        assert (one.scale or 0.0, one.zero_point or 0) == pytest.approx(details["quantization"], rel=1e-6)
        assert one.dtype == np.dtype(details["dtype"]).name


def test_totals_by_kind(content):
    inspection = inspect_tflite(content)
    (graph,) = inspection.graphs
    kinds = {one.name: one for one in inspection.kinds}
    assert sum(one.count for one in kinds.values()) == len(graph.operators)
    assert sum(one.multiply_adds for one in kinds.values()) == inspection.multiply_adds == graph.multiply_adds
    assert inspection.multiply_adds == 4 * 4 * 16 * 18 + 2 * 2 * 16 * 9 + 23 * 67
    assert [one.name for one in inspection.kinds][0] == "CONV_2D"


def test_head(content):
    inspection = inspect_tflite(content)
    theirs = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    assert (inspection.schema_version, inspection.description) == (theirs.version, theirs.description.decode())
    expected = {one.name.decode(): len(theirs.buffers[one.buffer].data) for one in theirs.metadata}
    assert inspection.metadata == expected
    assert inspection.min_runtime_version.count(".") == 2 and "\0" not in inspection.min_runtime_version
    assert 0 < inspection.gzip_bytes < inspection.file_bytes


# Files by hand


def test_int4_weights(int4_file):
    inspection = inspect_tflite(int4_file)
    (operator,) = inspection.graphs[0].operators
    assert (operator.weights.dtype, operator.quantization, operator.num_channels) == ("int4", "per channel", 3)
    assert (operator.multiply_adds, operator.constant_bytes) == (3 * 8, 12 + 12)
    assert inspection.bytes_by_dtype == {"int4": 12, "float32": 12}
    assert inspection.graphs[0].has_open_dimensions and operator.outputs[0].shape == (None, 3)
    assert inspection.signatures == ()
    assert inspection.graphs[0].inputs[0].name == "image"


def test_weights_quantized_by_blocks():
    tensors = [
        tensor("image", [1, 64]),
        tensor("weights", [2, 64], dtype="INT4", data=bytes(64), blocks=(2, -1, 32)),
        tensor("weights_scales", [2, 2], dtype="FLOAT16", data=bytes(range(8))),
        tensor("scores", [1, 2]),
    ]
    inspection = inspect_tflite(serialized(model(tensors, [("FULLY_CONNECTED", [0, 1, -1], [3])], outputs=[3])))
    (operator,) = inspection.graphs[0].operators
    assert (operator.quantization, operator.weights.block_size, operator.weights.num_scales) == ("per block", 32, 4)
    assert operator.inputs[2] is None
    assert inspection.graphs[0].unused_tensors == ()
    assert "int4, blocks of 32" in str(inspection)


def test_blocks_whose_scales_are_missing():
    tensors = [tensor("weights", [2, 64], dtype="INT4", data=bytes(64), blocks=(7, -1, 32))]
    with pytest.raises(ConfigurationError, match="damaged.*tensor 7 of 1"):
        inspect_tflite(serialized(model(tensors, [])))


def test_copies_shared_and_unused_content():
    tensors = [
        tensor("a", [4], data=b"same" * 4),
        tensor("b", [4], data=b"same" * 4),
        tensor("c", [4], data=b"else" * 4),
        tensor("d", [4]),
        tensor("e", [4]),
        tensor("lost", [4]),
    ]
    made = model(tensors, [("ADD", [0, 1], [4]), ("ADD", [2, 3], [4])], outputs=[4], metadata=[("note", b"same" * 4)])
    tensors[3].buffer = tensors[2].buffer
    made.buffers.append(buffer(b"forgotten"))
    inspection = inspect_tflite(serialized(made))
    (duplicate,) = inspection.duplicates
    assert (duplicate.name, duplicate.copies, duplicate.num_bytes) == ("a", 3, 16)
    assert inspection.bytes_lost == duplicate.bytes_lost == 32
    assert [(one.name, one.num_tensors) for one in inspection.constants] == [("a", 1), ("b", 1), ("c", 2)]
    assert (inspection.unused_buffers, inspection.unused_bytes) == ((5,), 9)
    assert [one.name for one in inspection.graphs[0].unused_tensors] == ["lost"]
    assert inspection.constant_bytes == 48
    assert "32 B lost" in str(inspection) and "Buffers that nothing names: 1, 9 B." in str(inspection)


def test_buffers_at_the_same_place_lose_nothing(int4_file):
    file = read_file(int4_file)
    shared = dataclasses.replace(file, buffers=(*file.buffers[:2], file.buffers[1]))
    assert duplicates(shared) == () and len(constants(shared)) == 1
    assert constants(shared)[0].num_tensors == 2


def test_tensors_of_inner_results_are_used():
    """An integer LSTM names the tensors with the ranges of its gates beside its inputs."""
    made = model([tensor("a", [2]), tensor("gate", [0]), tensor("lost", [0])], [("LSTM", [0], [0])])
    made.subgraphs[0].operators[0].intermediates = [1]
    inspection = inspect_tflite(serialized(made))
    assert [one.name for one in inspection.graphs[0].unused_tensors] == ["lost"]
    assert inspection.kinds[0].multiply_adds is None  # its weights are missing
    assert "Tensors that nothing names: 1." in str(inspection)


def test_control_flow_and_several_graphs():
    state = [tensor("state", [2, 4])]
    body = (
        [tensor("state", [2, 4]), tensor("kernel", [4, 4], data=bytes(64)), tensor("next", [2, 4])],
        [("FULLY_CONNECTED", [0, 1, -1], [2])],
        [0],
        [2],
    )
    condition = ([tensor("state", [2, 4]), tensor("on", [], dtype="BOOL")], [("ANY_OF", [0], [1])], [0], [1])
    made = model(
        [*state, tensor("last", [2, 4])],
        [("WHILE", [0], [1], ("WhileOptions", {"condSubgraphIndex": 1, "bodySubgraphIndex": 2}))],
        inputs=[0],
        outputs=[1],
        more_graphs=[condition, body],
        signatures=[("run", 0, {"state": 0}, {"last": 1}), ("step", 2, {"before": 0}, {"after": 2})],
    )
    inspection = inspect_tflite(serialized(made))
    assert [graph.multiply_adds for graph in inspection.graphs] == [0, 0, 2 * 4 * 4]
    assert [one.name for graph in inspection.graphs for one in graph.not_counted] == ["WHILE", "ANY_OF"]
    assert {one.name: one.multiply_adds for one in inspection.kinds}["WHILE"] is None
    text = str(inspection)
    assert "Multiply-adds are not counted: ANY_OF, WHILE." in text and "Multiply-adds: 32 (not counted: 2)." in text
    assert "Graph 0, main. Operators: 1. Multiply-adds: 0 (not counted: 1)." in text
    assert "each of the 3 graphs" in text
    assert list(inspection.signatures[1].inputs) == ["before"] and inspection.signatures[1].graph == 2
    assert ">before<" in inspection.svg(graph=2) and ">before<" not in inspection.svg()


def test_sparse_and_external_content():
    import ai_edge_litert.schema_py_generated as schema

    kernel = tensor("kernel", [3, 4], data=bytes(8), sparsity=schema.SparsityParametersT())
    far = tensor("far", [3, 4], externalBuffer=1)
    inspection = inspect_tflite(serialized(model([kernel, far], [("ADD", [0, 1], [1])])))
    assert inspection.constants[0].is_sparse and inspection.num_external == 1
    assert "float32, sparse" in str(inspection) and "in other files: 1" in str(inspection)


def test_a_file_with_a_graph_and_nothing_else():
    inspection = inspect_tflite(serialized(model([], [])))
    assert (inspection.constants, inspection.kinds, inspection.multiply_adds) == ((), (), 0)
    assert "Operators: 0." in str(inspection) and inspection.svg().startswith("<svg")
    json.dumps(inspection.as_dict(), allow_nan=False)


def test_buffers_that_overlap():
    content = serialized(model([tensor("a", [4], data=b"aaaa" * 4), tensor("b", [4], data=b"bbbb" * 4)], []))
    first = min(content.find(b"aaaa"), content.find(b"bbbb"))
    length = (len(content) - first).to_bytes(4, "little")
    with pytest.raises(ConfigurationError, match="The content is damaged. Received: buffers that overlap"):
        inspect_tflite(content[: first - 4] + length + content[first:])


# Plain data


def test_json_holds_everything(content):
    inspection = inspect_tflite(content)
    plain = json.loads(json.dumps(inspection.as_dict(), allow_nan=False))
    (graph,), (mine,) = plain["graphs"], inspection.graphs
    assert plain["file_bytes"] == inspection.file_bytes and plain["other_bytes"] == inspection.other_bytes
    assert graph["multiply_adds"] == plain["multiply_adds"] == inspection.multiply_adds
    assert [one["name"] for one in graph["tensors"]] == [one.name for one in mine.tensors]
    for one, operator in zip(graph["operators"], mine.operators, strict=True):
        shapes = [graph["tensors"][index]["shape"] for index in one["outputs"]]
        assert shapes == [list(output.shape) for output in operator.outputs]
        assert one["weights"] == (operator.weights and operator.weights.index)
    (signature,) = plain["signatures"]
    assert graph["tensors"][signature["inputs"]["image"]]["shape"] == [1, 8, 8, 2]
    assert set(plain) >= set(vars(inspection))


def test_json_has_no_nan():
    one = tensor("a", [2], dtype="INT8", scales=[float("nan")])
    plain = inspect_tflite(serialized(model([one], [], inputs=[0]))).as_dict()
    assert plain["graphs"][0]["tensors"][0]["scale"] == "nan"
