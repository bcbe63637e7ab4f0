"""Questions about the operators of a file."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.litert import Graph, StoredOperator, graph

layers = keras.layers


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.ReLU()(layers.Conv2D(3, 3)(image)))
    heads = {"sure": layers.Dense(3, activation="softmax")(x), "raw": layers.Reshape((2, 2))(layers.Dense(4)(x))}
    return keras.Model(image, heads)


@pytest.fixture(scope="module", params=["float32", "int8"])
def content(net, request, export_bytes):
    images = np.random.default_rng(0).random((20, 8, 8, 1), dtype="float32")
    return export_bytes(net, format=request.param, calibration=images)


def test_the_producer_of_an_output(content):
    outputs = litert.Model(content).outputs
    assert litert.producer(content, outputs["sure"].index) == "SOFTMAX"
    assert litert.producer(content, outputs["raw"].index) == "FULLY_CONNECTED"  # followed by a reshape
    assert litert.producer(content, next(iter(litert.Model(content).inputs.values())).index) is None


def test_cycles_of_a_damaged_file_end(monkeypatch):
    operators = (StoredOperator("RESHAPE", 1, False, (1,), (2,)), StoredOperator("RESHAPE", 1, False, (2,), (1,)))
    main = Graph("main", (), operators, (0,), (2,))
    monkeypatch.setattr(graph, "read_file", lambda content: SimpleNamespace(graphs=(main,)))
    assert litert.producer(b"", 2) is None


def test_named_ends(content, pair_file):
    for one in (content, pair_file):
        model = litert.Model(one)
        inputs, outputs = litert.named_ends(litert.read_file(one))
        assert dict(inputs) == {name: tensor.index for name, tensor in model.inputs.items()}
        assert dict(outputs) == {name: tensor.index for name, tensor in model.outputs.items()}


def test_float_operators(content):
    is_float = next(iter(litert.Model(content).inputs.values())).dtype == np.float32
    assert ("CONV_2D" in litert.float_operators(content)) == is_float
    assert bool(litert.float_operators(content)) == is_float


@pytest.mark.parametrize("form", ["float32", "int8", "int8_float_io"])
def test_the_steps_of_outputs(form, net, export_bytes):
    images = np.random.default_rng(0).random((20, 8, 8, 1), dtype="float32")
    content = export_bytes(net, format=form, calibration=images)
    steps = litert.output_steps(content)
    if form == "float32":
        assert steps == {}
    else:
        assert steps.keys() == {"sure", "raw"} and steps["sure"] == 1 / 256  # as LiteRT requires of a softmax
        values = litert.Model(content).predict(images)["raw"] / steps["raw"]
        np.testing.assert_allclose(values, np.round(values), atol=1e-3)
