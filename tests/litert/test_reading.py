"""Files read without running them, against LiteRT's interpreter and its own writer of files."""

import functools
import random

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from keras_kd import litert
from keras_kd.errors import ConfigurationError

layers = keras.layers


def net():
    keras.utils.set_random_seed(0)
    image, size = keras.Input((8, 8, 2), name="image"), keras.Input((3,), name="size")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(3, dilation_rate=1)(layers.ZeroPadding2D(1)(x))
    x = layers.Concatenate()([layers.Flatten()(layers.MaxPooling2D(2)(x)), size])
    return keras.Model([image, size], {"sure": layers.Dense(3, activation="softmax")(x), "raw": layers.Dense(2)(x)})


@functools.cache
def samples():
    rng = np.random.default_rng(0)
    return {
        name: rng.random((20, *shape), dtype="float32") for name, shape in {"image": (8, 8, 2), "size": (3,)}.items()
    }


@pytest.fixture(scope="module", params=["float32", "float16", "dynamic", "int8", "int16x8"])
def content(request, export_bytes):
    return export_bytes(net(), format=request.param, calibration=samples())


def test_tensors_and_operators_are_those_of_the_interpreter(content):
    interpreter = Interpreter(model_content=content)
    (graph,) = litert.read_file(content).graphs
    operators = [one for one in interpreter._get_ops_details() if one["op_name"] != "DELEGATE"]
    assert [one.name for one in graph.operators] == [one["op_name"] for one in operators]
    assert [one.inputs for one in graph.operators] == [tuple(one["inputs"]) for one in operators]
    assert [one.outputs for one in graph.operators] == [tuple(one["outputs"]) for one in operators]
    tensors = {one["index"]: one for one in interpreter.get_tensor_details()}
    for index, stored in enumerate(graph.tensors):
        one = tensors[index]
        assert (stored.name, stored.dtype) == (one["name"], np.dtype(one["dtype"]).name)
        assert stored.shape == tuple(one["shape"]) and stored.open_shape == tuple(one["shape_signature"])
        quantization = one["quantization_parameters"]
        np.testing.assert_array_equal(np.float32(stored.scales), quantization["scales"])
        assert set(stored.zero_points) == set(quantization["zero_points"])  # some versions name a common one once
        assert stored.axis == quantization["quantized_dimension"]


def test_stored_content_is_that_of_the_interpreter(content):
    interpreter, file = (
        Interpreter(model_content=content),
        litert.read_file(content),
    )
    interpreter.allocate_tensors()
    constants = [(i, one) for i, one in enumerate(file.graphs[0].tensors) if file.stored_bytes(one)]
    assert len(constants) >= 6
    for index, stored in constants:
        assert file.data(stored) == interpreter.get_tensor(index).tobytes()
        assert stored.num_bytes == file.stored_bytes(stored)


def test_the_signature_names_inputs_and_outputs(content):
    (signature,) = litert.read_file(content).signatures
    model = litert.Model(content)
    assert signature.key == "serving_default" and signature.graph == 0
    assert signature.inputs == {name: tensor.index for name, tensor in model.inputs.items()}
    assert signature.outputs == {name: tensor.index for name, tensor in model.outputs.items()}


def test_options_and_versions_are_those_of_the_schema(content):
    theirs = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (graph,) = litert.read_file(content).graphs
    for mine, one in zip(graph.operators, theirs.subgraphs[0].operators, strict=True):
        assert mine.version == theirs.operatorCodes[one.opcodeIndex].version and not mine.is_custom
        if one.builtinOptions is not None:
            for name, value in vars(one.builtinOptions).items():
                found = mine.options["".join(f"_{c.lower()}" if c.isupper() else c for c in name)]
                if isinstance(found, str):
                    kind = {"padding": schema.Padding, "fusedActivationFunction": schema.ActivationFunctionType}
                    assert (
                        vars(
                            kind.get(name, schema.TensorType)
                            if name != "weightsFormat"
                            else schema.FullyConnectedOptionsWeightsFormat
                        )[found]
                        == value
                    )
                else:
                    np.testing.assert_array_equal(found, [] if value is None else value)
    conv = next(one for one in graph.operators if one.name == "CONV_2D")
    assert conv.options["padding"] == "SAME" and conv.options["stride_h"] == 2
    assert conv.options["fused_activation_function"] == "RELU"


def test_metadata_of_the_file(content):
    theirs = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    file = litert.read_file(content)
    expected = {one.name.decode(): bytes(theirs.buffers[one.buffer].data) for one in theirs.metadata}
    assert file.metadata == expected and "min_runtime_version" in expected
    assert file.version == theirs.version and file.description == theirs.description.decode()


def test_an_open_batch(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    file = litert.read_file(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    graph = file.graphs[0]
    assert graph.tensors[graph.inputs[0]].open_shape == (None, 4) and graph.tensors[graph.inputs[0]].shape == (1, 4)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is not a LiteRT .* 0 bytes"),
        (b"PK\x03\x04 a zip file", "is not a LiteRT"),
        (b"\x08\0\0\0TFL3", "damaged"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(40), "damaged"),
        (b"\x00\x00\x00\x00TFL3" + bytes(40), "damaged|no graph"),
    ],
)
def test_what_is_not_a_file(content, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        litert.read_file(content)
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(ConfigurationError, match="a.tflite"):
        litert.read_file(tmp_path / "a.tflite")


def test_paths_without_a_file(tmp_path):
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            litert.read_file(path)


def test_damaged_files_are_read_or_refused(content, damaged):
    """No other error, no endless loop."""
    rng, refused = random.Random(0), 0
    for _ in range(300):
        try:
            litert.read_file(damaged(content, rng))
        except ConfigurationError as error:
            assert "damaged" in str(error) or "is not a LiteRT" in str(error)
            refused += 1
    assert 30 < refused < 300


@pytest.mark.parametrize("source", [None, 5, [b"TFL3"], bytearray(b"TFL3")], ids=repr)
def test_what_is_neither_a_path_nor_bytes(source):
    with pytest.raises(ConfigurationError, match=f"Received: {type(source).__name__}. Expected: a path, or bytes"):
        litert.read_file(source)


def test_a_path_that_the_system_refuses():
    for path in ("null\0.tflite", "long" * 2000):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            litert.read_file(path)


def test_lists_that_share_their_content_end_early():
    """20,000 graphs that are one, with 20,000 operators that are one: 400 million in a file of 160 kB."""
    builder = flatbuffers.Builder()

    def repeated(table, count=20_000):
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(table)
        return builder.EndVector()

    schema.OperatorCodeStart(builder)
    codes = repeated(schema.OperatorCodeEnd(builder), 1)
    schema.OperatorStart(builder)
    operators = repeated(schema.OperatorEnd(builder))
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    graphs = repeated(schema.SubGraphEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    with pytest.raises(ConfigurationError, match="longer than the file"):
        litert.read_file(bytes(builder.Output()))
