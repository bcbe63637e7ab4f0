"""Files that ai-edge-quantizer writes: their dtypes, and their values against NumPy."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.export import measure_ranges
from keras_kd.litert.formats import Dynamic, Int4, Int8, Int16x8, Mixed

layers = keras.layers


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).random((30, 8, 8, 1), dtype="float32")


@pytest.fixture(scope="module")
def content(export_bytes, inputs):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="first")(image))
    x = layers.Dense(64, activation="relu", name="body")(layers.Dense(32, activation="relu", name="neck")(x))
    return export_bytes(keras.Model(image, layers.Dense(10, name="head")(x)), samples=inputs)


@pytest.fixture(scope="module")
def ranges(content, inputs):
    return measure_ranges(content, inputs).values


def weights(content):
    """The dtype of the weights of each operator with weights, by the name of its layer."""
    graph = litert.read_file(content).graphs[0]
    found = {}
    for one in graph.operators:
        if one.name in ("CONV_2D", "FULLY_CONNECTED"):
            scope = graph.tensors[one.outputs[0]].name
            name = next((layer for layer in ("first", "neck", "body") if layer in scope), "head")
            found[name] = graph.tensors[one.inputs[1]].dtype
    return found


ALL = ("first", "neck", "body", "head")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (Int8(), dict.fromkeys(ALL, "int8")),
        (Int16x8(), dict.fromkeys(ALL, "int8")),
        (Dynamic(), dict.fromkeys(ALL, "int8")),
        (Int4(), dict.fromkeys(ALL, "int4")),
        (Int4(32), {"first": "int8", "neck": "int8", "body": "int4", "head": "int4"}),
        (Int4(64), {"first": "int8", "neck": "int8", "body": "int8", "head": "int4"}),
        (Mixed({"body": "float32"}), dict.fromkeys(ALL, "int8") | {"body": "float32"}),
        (Mixed({"FULLY_CONNECTED": "int4"}, default="float32"), dict.fromkeys(ALL, "int4") | {"first": "float32"}),
        (Mixed({"*": "float32", "?eck": "dynamic"}), dict.fromkeys(ALL, "float32") | {"neck": "int8"}),
        (Mixed({"*": "float32", "FULLY_CONNECTED": "int8"}), dict.fromkeys(ALL, "int8") | {"first": "float32"}),
        (
            Mixed({"head": "int4", "FULLY_CONNECTED": "float32", "h*": "dynamic"}),
            dict.fromkeys(("neck", "body"), "float32") | dict.fromkeys(("first", "head"), "int8"),
        ),
        (Mixed({"CONV_2D": "int16x8"}, default="int8"), dict.fromkeys(ALL, "int8")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_weights_have_the_dtypes_of_the_format(form, expected, content, ranges, inputs):
    made = litert.quantize(content, form, ranges)
    assert weights(made) == expected
    (reference,) = litert.Model(content).predict(inputs).values()
    (output,) = litert.Model(made).predict(inputs).values()
    limit = {"int4": 0.3, "int8": 0.05}.get(form.weights, 0.3)
    assert 0 < np.abs(output - reference).max() < limit * np.abs(reference).max()


@pytest.mark.parametrize(("io", "dtype"), [("int8", np.int8), ("float32", np.float32)])
def test_inputs_and_outputs(io, dtype, content, ranges):
    model = litert.Model(litert.quantize(content, Int8(io=io), ranges))
    assert {one.dtype for one in (*model.inputs.values(), *model.outputs.values())} == {np.dtype(dtype)}


def test_ranges_give_scale_and_zero_point(content, ranges):
    (name,) = (tensor.name for tensor in [litert.read_file(content).graphs[0].tensors[0]])
    model = litert.Model(litert.quantize(content, Int8(), {**ranges, name: (-1.0, 3.0)}))
    (tensor,) = model.inputs.values()
    assert tensor.scale == pytest.approx(4 / 255) and tensor.zero_point == round(-128 + 255 / 4)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Mixed({"tail": "float32"}), "'tail' names no layer.*head"),
        (Mixed({"SOFTMAX": "float32"}), "'SOFTMAX' names no operator.*CONV_2D, FULLY_CONNECTED"),
        (Mixed({"RESHAPE": "int4"}), "'RESHAPE' asks for a format that none.*'int4' for RESHAPE"),
        (Mixed({"flatten*": "dynamic"}), "'flatten.*' asks for a format that none.*'dynamic' for RESHAPE"),
        (Int4(256), "blocks of 256 weights.*inputs"),
    ],
    ids=["layer", "operator", "unsupported operator", "unsupported layer", "block"],
)
def test_what_the_file_does_not_have_is_refused(form, message, content, ranges):
    with pytest.raises(ConfigurationError, match=message):
        litert.quantize(content, form, ranges)


def test_nothing_is_printed(content, ranges, capfd):
    litert.quantize(content, Mixed({"head": "float32", "FULLY_CONNECTED": "int8"}), ranges)
    assert capfd.readouterr().out == ""
