"""The table of what can be read from a model."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.features import inner_taps, taps

L = keras.layers


class Network(keras.Model):
    def __init__(self):
        super().__init__(name="network")
        self.stem = L.Dense(4, activation="relu")
        self.norm, self.drop = L.BatchNormalization(), L.Dropout(0.5)
        self.blocks = [L.Dense(4), L.Dense(6)]

    def call(self, x, training=None):
        x = self.drop(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return x


def small():
    x = keras.Input((8, 8, 1))
    y = L.BatchNormalization(name="norm")(L.Conv2D(2, 3, name="conv")(x))
    inner = keras.Model(x, y, name="inner")
    z = keras.Input((8, 8, 1))
    return keras.Model(z, L.Dense(3, name="head")(L.Dropout(0.5, name="drop")(L.Flatten(name="flat")(inner(z)))))


def state(model):
    return [np.array(variable) for variable in model.variables]


def test_every_inner_output_in_the_order_of_running_with_its_symbolic_shape():
    model = small()
    table = taps(model)
    assert [tap.path for tap in table] == ["inner/conv", "inner/norm", "inner", "flat", "drop", "head"]
    assert [tap.layer for tap in table] == [
        "Conv2D",
        "BatchNormalization",
        "Functional",
        "Flatten",
        "Dropout",
        "Dense",
    ]
    expected = [(None, 6, 6, 2)] * 3 + [(None, 72), (None, 72), (None, 3)]
    assert [tap.shape for tap in table] == expected


def test_it_prints_as_a_table():
    assert repr(taps(small())).splitlines()[:3] == [
        "path        layer               output shape",
        "----------  ------------------  ---------------",
        "inner/conv  Conv2D              (None, 6, 6, 2)",
    ]
    assert kd.taps is taps


def test_shapes_of_a_published_model_are_those_of_its_graph():
    model = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35)
    table = taps(model)
    assert {tap.path: tap.shape for tap in table} == {layer.name: layer.output.shape for layer in model.layers[1:]}


def test_each_call_of_a_shared_layer_is_a_tap_that_can_be_read():
    x = keras.Input((4,))
    encoder = L.Dense(4, name="encoder")
    model = keras.Model(x, encoder(encoder(x)))
    paths = [tap.path for tap in taps(model)]
    assert paths == ["encoder#0", "encoder#1"]
    assert inner_taps(model, paths) == {path: (None, 4) for path in paths}


def test_what_is_not_one_tensor_is_left_out():
    x = keras.Input((5, 4))
    model = keras.Model(x, L.GRU(3, return_state=True, name="states")(x)[0])
    assert [tap.path for tap in taps(model)] == []


def test_unknown_sizes_are_none():
    model = keras.Sequential([keras.Input((None, None, 1)), L.Conv2D(2, 3, strides=2, name="conv")])
    assert taps(model)[0].shape == (None, None, None, 2)


def test_a_model_of_several_inputs():
    x, y = keras.Input((3,), name="x"), keras.Input((4,), name="y")
    for inputs in ([x, y], {"x": x, "y": y}):
        model = keras.Model(inputs, L.Concatenate(name="both")([x, y]))
        assert [(tap.path, tap.shape) for tap in taps(model)] == [("both", (None, 7))]


def test_nothing_about_the_model_changes():
    model = small()
    model.compile("sgd", "mse")
    before, nodes = state(model), [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    taps(model)
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    assert model.losses == []


def test_a_subclassed_model_needs_its_input_shape_once():
    model = Network()
    with pytest.raises(ConfigurationError, match="input of 'network' is not known.*Network.*input_shape="):
        taps(model)
    assert not model.built
    table = taps(model, input_shape=(None, 5))
    assert [(tap.path, tap.shape) for tap in table] == [
        ("stem", (None, 4)),
        ("norm", (None, 4)),
        ("drop", (None, 4)),
        ("blocks/0", (None, 4)),
        ("blocks/1", (None, 6)),
    ]
    assert taps(model) == table


def test_a_model_that_the_table_built_can_be_used():
    model = Network()
    taps(model, input_shape=(None, 5))
    assert model.built and [weight.shape for weight in model.weights][0] == (5, 4)
    x, y = np.random.default_rng(0).normal(size=(2, 16, 5)).astype("float32")
    by_hand = np.maximum(x @ np.array(model.stem.kernel), 0) / np.sqrt(1 + 1e-3)
    for block in model.blocks:
        by_hand = by_hand @ np.array(block.kernel)
    np.testing.assert_allclose(model(x), by_hand, atol=1e-5)  # and no statistics were gathered so far
    before = state(model)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((16, 6)), verbose=0)
    unchanged = [v.path for v, one in zip(model.variables, before, strict=True) if np.array_equal(one, v)]
    assert unchanged == []


def test_a_model_that_was_called_is_known():
    model = Network()
    model(np.zeros((2, 5), "float32"))
    assert taps(model)[-1] == ("blocks/1", "Dense", (None, 6))


def test_inner_taps_leaves_outputs_out_and_waits_for_what_is_not_built():
    assert inner_taps(small(), ["output", "flat", "flat"]) == {"flat": (None, 72)}
    assert inner_taps(Network(), ["stem", "anything"]) == {"stem": None}
