"""Every layer has a path, and a path that leads nowhere says which were near."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.features import find_place, inner_taps
from keras_kd.features.paths import layers_by_path

L = keras.layers


def stage(name, size=8):
    x = keras.Input((size, size, 1), name="image")
    return keras.Model(x, L.ReLU(name="relu")(L.Conv2D(2, 3, activation="tanh", name="conv")(x)), name=name)


@keras.saving.register_keras_serializable("test_paths")
class Block(L.Layer):
    """A public and a private layer, the private one under Keras' automatic name."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first = L.Dense(3)
        self._second = L.Dense(4)
        self._third = L.Dense(5, name="last")

    def call(self, x):
        return self._third(self._second(self.first(x)))


class Network(keras.Model):
    def __init__(self):
        super().__init__(name="network")
        self.stem = L.Dense(4)
        self.blocks = [Block(), Block()]
        self.heads = {"fine": L.Dense(2), "coarse": [L.Dense(3)]}

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["coarse"][0](self.heads["fine"](x))


def test_nested_functional_in_sequential():
    inner = stage("inner")
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, L.Flatten(name="flat"), L.Dense(2, name="head")])
    assert list(layers_by_path(model)) == ["inner", "inner/image", "inner/conv", "inner/relu", "flat", "head"]
    assert find_place(model, "inner/relu").operation is inner.get_layer("relu")


def test_functional_in_functional_in_functional():
    inner = stage("inner", 6)
    x = keras.Input((8, 8, 1))
    middle = keras.Model(x, inner(L.MaxPooling2D(3, 1, name="pool")(x)), name="middle")
    y = keras.Input((8, 8, 1))
    model = keras.Model(y, middle(y))
    assert find_place(model, "middle/inner/conv").operation is inner.get_layer("conv")
    assert inner_taps(model, ["middle/pool", "middle/inner/conv"]) == {
        "middle/pool": (None, 6, 6, 1),
        "middle/inner/conv": (None, 4, 4, 2),
    }


def test_a_model_of_keras_applications_in_a_sequential():
    backbone = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35, name="backbone"
    )
    model = keras.Sequential([backbone, L.GlobalAveragePooling2D(), L.Dense(3)])
    paths = ["backbone/block_3_expand_relu", "backbone/block_5_add", "backbone/block_6_expand:input"]
    shapes = inner_taps(model, paths)
    expected = [backbone.get_layer(name).output.shape for name in ("block_3_expand_relu", "block_5_add")]
    assert list(shapes.values())[:2] == expected
    assert shapes[paths[2]] == backbone.get_layer("block_6_expand").input.shape


def test_a_subclassed_model_goes_by_its_attributes_in_lists_and_dicts_of_any_depth():
    inside = ["first", "_second", "last"]
    expected = ["stem"]
    for block in ("blocks/0", "blocks/1"):
        expected += [block, *(f"{block}/{name}" for name in inside)]
    assert list(layers_by_path(Network())) == [*expected, "heads/fine", "heads/coarse/0"]


def test_attributes_name_the_same_layers_in_two_models_whose_automatic_names_differ():
    one, other = Network(), Network()
    assert one.stem.name != other.stem.name
    assert list(layers_by_path(one)) == list(layers_by_path(other))
    for model in (one, other):
        assert find_place(model, "stem").operation is model.stem
        assert find_place(model, model.stem.name).operation is model.stem  # Keras' name leads there as well
        block = model.blocks[1]
        assert find_place(model, f"{block.name}/{block.first.name}").operation is block.first


def test_a_subclassed_layer_in_a_functional_model():
    x = keras.Input((5,))
    model = keras.Model(x, L.Dense(2)(Block(name="block")(x)))
    assert inner_taps(model, ["block", "block/first", "block/_second", "block/last"]) == {
        "block": (None, 5),
        "block/first": (None, 3),
        "block/_second": (None, 4),
        "block/last": (None, 5),
    }


def test_operations_of_a_graph_have_paths():
    x = keras.Input((5,))
    y = keras.ops.tanh(x) * 2.0
    model = keras.Model(x, keras.ops.reshape(L.Dense(4)(y), (-1, 2, 2)))
    names = [operation.name for operation in model.operations]
    assert list(layers_by_path(model)) == names
    tanh, multiply = names[1:3]
    assert tanh.startswith("tanh") and multiply.startswith("multiply")
    assert inner_taps(model, [tanh, f"{multiply}:input"]) == {tanh: (None, 5), f"{multiply}:input": (None, 5)}


def test_layers_in_wrappers():
    x = keras.Input((6, 3))
    y = L.Bidirectional(L.GRU(4, return_sequences=True), name="both")(x)
    model = keras.Model(x, L.TimeDistributed(L.Dense(2), name="each")(y))
    assert inner_taps(model, ["both/forward_layer", "both", "each/layer#5", "each/layer#0:input"]) == {
        "both/forward_layer": (None, 6, 4),
        "both": (None, 6, 8),
        "each/layer#5": (None, 2),
        "each/layer#0:input": (None, 8),
    }


def test_points_of_layers():
    x = keras.Input((5, 8))
    y = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    y = L.GroupQueryAttention(4, 4, 2, name="grouped")(y, y)
    model = keras.Model(x, L.Dense(3, activation="relu", name="dense")(y))
    assert inner_taps(
        model,
        ["attention:scores", "attention:raw_scores", "grouped:scores", "dense:input", "dense:preactivation", "dense"],
    ) == {
        "attention:scores": (None, 2, 5, 5),
        "attention:raw_scores": (None, 2, 5, 5),
        "grouped:scores": (None, 4, 5, 5),
        "dense:input": (None, 5, 8),
        "dense:preactivation": (None, 5, 3),
        "dense": (None, 5, 3),
    }


def test_path_call_and_point_together():
    x = keras.Input((4,))
    encoder = L.Dense(4, activation="relu", name="encoder")
    model = keras.Model(x, encoder(encoder(x)))
    place = find_place(model, "encoder#1:preactivation")
    assert (place.operation, place.call, place.point) == (encoder, 1, "preactivation")
    assert find_place(model, "encoder").call is None


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((8, 8, 1)), stage("stage_1"), stage("stage_2", 6), L.Flatten(name="flat")])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("relu", "Did you mean 'stage_1/relu' or 'stage_2/relu'"),
        ("stage_1/relo", "Did you mean 'stage_1/relu'"),
        ("stage1/conv", "'stage_1/conv'"),
        ("stage_1/conv:outputs", "'stage_1/conv'"),
        ("zzzzzz", r"Received: 'zzzzzz'.*an output \('output'\) or the path of a layer. keras_kd.taps\(model\) lists"),
        ("stage_1/relu:preactivation", "no preactivation.*a ReLU.*a layer with an activation"),
        ("stage_1/conv:scores", "no scores.*a Conv2D.*a MultiHeadAttention layer"),
        ("flat:raw_scores", "no raw_scores.*a Flatten"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_is_near(model, path, message):
    with pytest.raises(ConfigurationError, match=message):
        find_place(model, path)


@pytest.mark.parametrize("path", ["rnn:preactivation", "rnn/cell:scores"])
def test_a_recurrent_layer_has_no_preactivation(path):
    with pytest.raises(ConfigurationError, match="This layer has no"):
        find_place(keras.Sequential([keras.Input((3, 2)), L.LSTM(2, name="rnn")]), path)


def test_the_role_is_named():
    with pytest.raises(ConfigurationError, match="The teacher 'net' has no output or layer"):
        find_place(keras.Sequential([keras.Input((2,))], name="net"), "nowhere", role="teacher")


def test_ambiguous_paths_are_refused():
    x = keras.Input((4, 4))
    twice = L.Dense(4, activation="relu", name="twice")
    states = L.GRU(3, return_state=True, name="states")(twice(twice(x)))
    model = keras.Model(x, states[0])
    cases = {
        "twice": "2 calls of that layer. Expected: one of twice#0, twice#1",
        "twice#2": "one of twice#0, twice#1",
        "twice:preactivation": "one of twice#0:preactivation, twice#1:preactivation",
        "states": "not a single tensor.*tuple.*single tensor",
        model.operations[0].name: "0 calls of that layer. Expected: a layer that runs",
    }
    for path, message in cases.items():
        with pytest.raises(ConfigurationError, match=message):
            inner_taps(model, [path])


def test_a_layer_that_never_runs_is_refused():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = L.Dense(2), L.Identity()

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(np.zeros((1, 4), "float32"))
    assert inner_taps(model, ["used"]) == {"used": (None, 2)}
    with pytest.raises(ConfigurationError, match="'idle'.*0 calls.*a layer that runs"):
        inner_taps(model, ["idle"])
