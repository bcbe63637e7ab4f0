"""Laws of `clone` over every kind of graph: equal outputs, no shared state, and an unchanged original."""

import re

import keras
import model_table
import numpy as np
import pytest
from model_table import LARGE, MODELS, inputs_of, shake

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.surgery import clone

L = keras.layers
ALL = [*MODELS, *(pytest.param(name, marks=pytest.mark.long) for name in LARGE)]


def make(name):
    return shake((MODELS | LARGE)[name]())


def state(model):
    """What copying must not change: names, policies, call counts, and the trainable flags of layers and weights."""
    layers = [layer for layer in model._flatten_layers() if layer is not model]
    about = [
        (
            re.sub(r"_\d+$", "", layer.name),
            layer.trainable,
            layer.dtype_policy.name,
            len(layer._inbound_nodes),
            len(layer._outbound_nodes),
        )
        for layer in layers
    ]
    return about, [weight.trainable for weight in model.weights]


def assert_equal(one, other):
    keras.tree.assert_same_structure(one, other)
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a, "float32"), np.asarray(b, "float32"))


@pytest.mark.parametrize("name", ALL)
def test_a_copy_is_equal_and_apart(name, tmp_path):
    model = make(name)
    inputs, before, weights = inputs_of(model), state(model), model.get_weights()
    copy = clone(model)
    assert state(model) == before
    assert [type(copy), copy.name] == [type(model), model.name] and not copy.compiled
    assert_equal(copy(inputs), model(inputs))
    assert not {id(layer) for layer in model._flatten_layers()} & {id(layer) for layer in copy._flatten_layers()}
    assert not {id(variable) for variable in model.variables} & {id(variable) for variable in copy.variables}
    about, flags = state(copy)
    assert [entry[:3] for entry in about] == [entry[:3] for entry in before[0]] and flags == before[1]
    for weight in copy.weights:
        weight.assign(keras.ops.zeros_like(weight))
    assert_equal(weights, model.get_weights())


NOT_SAVED = ("EfficientNetB0", "MobileNetV2", "shared_across_models")  # two are slow; Keras cannot load the third


@pytest.mark.parametrize("name", [name for name in MODELS if name not in NOT_SAVED])
def test_a_copy_survives_a_file(name, tmp_path):
    model = make(name)
    clone(model).save(tmp_path / "copy.keras")
    again = keras.models.load_model(tmp_path / "copy.keras", safe_mode=False)
    assert_equal(again(inputs_of(model)), model(inputs_of(model)))


class OwnDense(L.Dense):
    pass


class OwnConv(L.Conv2D):
    pass


OWN = {L.Dense: OwnDense, L.Conv2D: OwnConv}


def owned(layer):
    kind = OWN.get(type(layer))
    return kind and kind.from_config(layer.get_config())


@pytest.mark.parametrize("name", ALL)
def test_replacements_carry_the_weights(name):
    model = make(name)
    copy = clone(model, owned)
    assert_equal(copy(inputs_of(model)), model(inputs_of(model)))
    before, after = ([type(layer) for layer in one._flatten_layers()] for one in (model, copy))
    assert after == [OWN.get(kind, kind) for kind in before]


@pytest.mark.parametrize("flags", [(True, False), (False, True)])
def test_a_model_that_is_frozen_in_part(flags):
    model = make("sequential_inside")
    model.trainable = flags[0]
    model.get_layer("body").get_layer("inner").trainable = flags[1]
    model.get_layer("outer").bias.trainable = False
    copy = clone(model)
    assert [copy.trainable, copy.get_layer("body").trainable, copy.get_layer("body").get_layer("inner").trainable] == [
        model.trainable,
        model.get_layer("body").trainable,
        flags[1],
    ]
    assert len(copy.trainable_weights) == len(model.trainable_weights)
    assert not copy.get_layer("outer").bias.trainable


def test_a_shared_layer_has_one_counterpart():
    copy = clone(make("shared_across_models"))
    assert copy.get_layer("body").get_layer("shared") is copy.get_layer("shared")
    assert len(copy.get_layer("shared")._inbound_nodes) == 3  # once in the body, twice outside
    assert len(copy.get_layer("body")._inbound_nodes) == 2


def test_replacements_by_path():
    model = make("nested_three_deep")
    new = L.Dense(6, activation="relu", name="anything")
    copy = clone(model, {"second/third/core": new})
    assert copy.get_layer("second").get_layer("third").get_layer("core") is new and new.name == "core"
    np.testing.assert_array_equal(new.kernel, model.get_layer("second").get_layer("third").get_layer("core").kernel)


def test_a_nested_model_is_replaced_as_a_whole():
    model = make("sequential_inside")
    copy = clone(model, {"body": L.Dense(4)}, transfer=lambda original, replacement: None)
    assert isinstance(copy.get_layer("body"), L.Dense)
    assert_equal(copy.get_layer("outer").get_weights(), model.get_layer("outer").get_weights())


def test_other_shapes_with_a_transfer_of_ones_own():
    """A narrower layer, as from structured pruning."""
    model = make("sequential_inside")

    def narrow(original, replacement):
        replacement.set_weights([np.asarray(original.kernel)[:, :3], np.asarray(original.bias)[:3]])

    with pytest.raises(ConfigurationError, match=r"'inner' lacks some.*kernel.*\(6, 3\).*kernel of shape \(6, 4\)"):
        clone(model, {"body/inner": L.Dense(3)}, transfer=kd.surgery.carry_weights)
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, name="inner")])
    shake(inner)
    copy = clone(inner, {"inner": L.Dense(3)}, transfer=narrow)
    np.testing.assert_array_equal(copy.get_weights()[0], inner.get_weights()[0][:, :3])


class Taught(keras.Model):
    """A Functional model with its own training step."""

    def train_step(self, data):
        return {"mine": 1.0}


def test_a_subclass_with_the_constructor_of_a_functional_model_stays_one():
    x = keras.Input((2,))
    copy = clone(Taught(x, L.Dense(1)(x), name="taught"))
    assert type(copy).train_step is Taught.train_step and copy.name == "taught"


def test_inputs_keep_all_settings():
    x = keras.Input((4,), batch_size=3, name="x", dtype="float16")
    y = keras.Input((4,), name="y", optional=True)
    add = L.Lambda(lambda pair: pair[0] if pair[1] is None else pair[0] + pair[1], output_shape=(4,))
    copy = clone(keras.Model([x, y], add([x, y])))
    assert [layer.get_config() for layer in copy.layers[:2]] == [
        x._keras_history[0].get_config(),
        y._keras_history[0].get_config(),
    ]


class OwnCode(keras.Model):
    def call(self, x):
        return x


class Block(L.Layer):
    """A layer that cannot be built from its configuration."""

    def __init__(self, size):
        super().__init__()
        self.dense = L.Dense(size)

    def call(self, x):
        return self.dense(x)


def block_inside():
    return keras.Sequential([keras.Input((4,)), Block(2)])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: clone(OwnCode()), "cannot be read as a graph.*a OwnCode with code of its own.*Functional"),
        (lambda: clone(keras.Sequential([L.Dense(1)])), "a Sequential model that has not been built"),
        (lambda: clone(L.Dense(1)), "Received: a Dense"),
        (lambda: clone(make("shared"), 3), "Invalid 'replace'.*3.*a mapping of replacements by path"),
        (
            lambda: clone(block_inside()),
            "(?s)configuration of layer 'block.*does not rebuild it.*size.*Block.get_config",
        ),
        (
            lambda: clone(make("shared"), {"towr": L.Dense(3)}),
            "no output or layer with this path.*Did you mean 'tower'",
        ),
        (lambda: clone(make("shared"), lambda layer: layer), "a layer of the model itself"),
        (lambda: clone(make("shared"), lambda layer: "dense"), "Received: 'dense'"),
        (lambda: clone(make("shared"), {"tower": None}), "replacement of 'tower' does not fit. Received: None"),
        (lambda: clone(make("shared"), transfer=3), "Invalid 'transfer'. Received: 3"),
        (lambda: kd.surgery.read_graph(make("shared"))["towr"], "Unknown path in the graph.*Did you mean 'tower'"),
        (lambda: clone(make("sequential"), same_for_all(L.ReLU())), "the replacement of another layer"),
        (
            lambda: clone(make("masked"), {"both/forward_layer": L.GRU(4)}),
            "'both' cannot be built around .*same value .* \"return_sequences\".*Replace the Bidirectional as a whole",
        ),
        (
            lambda: clone(make("masked"), {"both/forward_layer/cell": L.GRUCell(4)}),
            "makes it for itself.*'both/forward_layer/cell'.*Replace the layer or model around it",
        ),
        (lambda: clone(make("shared"), {"tower": Two()}), "2 outputs. Expected: 1"),
        (
            lambda: clone(make("shared"), {"tower": Broken()}),
            r"replacement of 'tower' does not fit.*a Broken that raised .*no such.*called with \(\(None, 4\)",
        ),
        (
            lambda: clone(make("sequential_inside"), {"body/inner": L.Dense(5)}, transfer=nothing),
            r"'outer' does not fit the replacements.*\(5, 2\).*instead of.*\(4, 2\).*Replace this layer as well",
        ),
    ],
)
def test_what_cannot_be_copied_is_told(run, message):
    with pytest.raises(ConfigurationError, match=message):
        run()


def nothing(original, replacement):
    pass


class Broken(L.Layer):
    def call(self, x):
        raise RuntimeError("no such thing")


class Two(L.Layer):
    def call(self, x):
        return x, x


def same_for_all(layer):
    return lambda original: layer


def test_the_table_has_every_kind():
    assert set(MODELS) >= {"adapted", "masked", "bare_operations"} and callable(model_table.application)
