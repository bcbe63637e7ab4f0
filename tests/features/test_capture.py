"""Captured values are those of the forward pass, and the layers are restored."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.features import find_heads, find_place, forward
from keras_kd.features.capture import capture, pick

L = keras.layers


def small(**settings):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(3, 3, activation="relu", name="conv"),
            L.BatchNormalization(name="norm"),
            L.Flatten(name="flat"),
            L.Dense(4, activation="softmax", name="head", **settings),
        ]
    )


def attention(**settings):
    x = keras.Input((5, 8))
    layer = L.MultiHeadAttention(2, 4, name="attention", **settings)
    return keras.Model(x, L.Dense(2)(layer(x, x)))


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def captured_outputs(model, paths, x, compiled=False):
    heads = find_heads(model, "logits")
    places = [find_place(model, path) for path in paths]

    def run(x):
        return forward(model, heads, x, places=places)

    outputs, _, captured = tf.function(run)(x) if compiled else run(x)
    return outputs, captured


def attributes(model):
    return [
        {name: value for name, value in vars(layer).items() if name in ("call", "quantized_call", "activation")}
        for layer in model._flatten_layers()
    ]


PATHS = ["conv", "conv:preactivation", "norm:input", "flat", "head:preactivation"]


@pytest.mark.parametrize("compiled", [False, True])
def test_values_are_those_of_a_submodel_built_by_hand(compiled):
    model, x = small(), images(3, 8, 8, 1)
    conv, norm, flat, head = model.layers
    by_hand = keras.Model(model.inputs[0], [conv.output, norm.output, flat.output, head.output])
    submodel = tf.function(lambda x: by_hand(x, training=False)) if compiled else by_hand
    expected = submodel(x)
    outputs, captured = captured_outputs(model, PATHS, x, compiled)
    np.testing.assert_array_equal(outputs, expected[3])
    for path, number in (("conv", 0), ("norm:input", 0), ("flat", 2)):
        np.testing.assert_array_equal(captured[path], expected[number])
    np.testing.assert_array_equal(np.maximum(captured["conv:preactivation"], 0), expected[0])
    assert np.min(captured["conv:preactivation"]) < 0
    np.testing.assert_allclose(captured["head:preactivation"], expected[2] @ head.kernel + head.bias, atol=1e-6)


def test_half_precision_is_heard_as_it_is():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    x = images(3, 8, 8, 1)
    _, captured = captured_outputs(model, PATHS, x)
    assert {value.dtype.name for value in captured.values()} == {"float16"}
    np.testing.assert_array_equal(captured["norm:input"], keras.Model(model.inputs[0], model.layers[0].output)(x))


def test_a_quantized_layer_is_heard():
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(2, name="last")(L.Dense(3, activation="relu", name="dense")(x)))
    for layer in model.layers[1:]:
        layer.quantize("int8")
    data = images(2, 4)
    _, captured = captured_outputs(model, ["dense", "dense:input", "dense:preactivation"], data)
    np.testing.assert_array_equal(captured["dense"], keras.Model(x, model.layers[1].output)(data))
    np.testing.assert_array_equal(captured["dense:input"], data)
    np.testing.assert_array_equal(captured["dense"], np.maximum(captured["dense:preactivation"], 0))


def test_calls_of_a_shared_layer_are_counted():
    x = keras.Input((4,))
    encoder = L.Dense(4, activation="tanh", name="encoder")
    first = encoder(x)
    model = keras.Model(x, encoder(first))
    data = images(2, 4)
    outputs, captured = captured_outputs(model, ["encoder#0", "encoder#1", "encoder#1:input"], data)
    np.testing.assert_array_equal(captured["encoder#1"], outputs)
    np.testing.assert_array_equal(captured["encoder#0"], keras.Model(x, first)(data))
    np.testing.assert_array_equal(captured["encoder#1:input"], captured["encoder#0"])


def test_operations_of_a_graph_are_heard():
    x = keras.Input((4,))
    tanh = keras.ops.tanh(x)
    model = keras.Model(x, L.Dense(2)(tanh))
    name = tanh._keras_history.operation.name
    data = images(2, 4)
    _, captured = captured_outputs(model, [name, f"{name}:input"], data)
    np.testing.assert_array_equal(captured[f"{name}:input"], data)
    np.testing.assert_allclose(captured[name], np.tanh(data), rtol=1e-6)


class Stop(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_the_layers_are_as_before(fails):
    as_layer = keras.Sequential([keras.Input((8, 8, 1)), L.Dense(2, activation=L.ReLU(), name="dense")])
    for model, paths in ((small(), PATHS), (attention(), ["attention", "attention:raw_scores"])):
        assert_left_alone(model, paths, fails)
    assert_left_alone(as_layer, ["dense:preactivation", "dense"], fails)


def assert_left_alone(model, paths, fails):
    before, weights = attributes(model), [id(weight) for weight in model.weights]
    try:
        with capture([find_place(model, path) for path in paths]):
            assert attributes(model) != before
            model(np.zeros((1, *model.input_shape[1:]), "float32"))
            if fails:
                raise Stop
    except Stop:
        pass
    assert attributes(model) == before
    assert [id(weight) for weight in model.weights] == weights


def test_one_listener_inside_another():
    model, x = small(), images(2, 8, 8, 1)
    place = find_place(model, "conv")
    with capture([place]) as outer:
        with capture([place, find_place(model, "conv:input")]) as inner:
            model(x)
        model(x)
    assert len(outer) == 2 and [path for path, _ in inner] == ["conv:input", "conv"]
    assert all(not own.get("call") for own in attributes(model))


def test_threads_that_take_turns_hear_themselves_alone():
    """As the replicas of `tf.distribute` do: one stops in the middle, the other runs, and they end in any order."""
    model = small()
    place = find_place(model, "conv")
    before = attributes(model)
    captured, first_is_in, second_is_in = {}, threading.Event(), threading.Event()

    def first():
        with capture([place]) as captured["first"]:
            first_is_in.set()
            second_is_in.wait(20)
            model(images(1, 8, 8, 1))

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(20)
    with capture([place]) as captured["second"]:
        second_is_in.set()
        thread.join(20)
        model(images(2, 8, 8, 1))
    assert [len(pick(place, captured[name])) for name in ("first", "second")] == [1, 2]
    assert attributes(model) == before


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.5}, {"use_bias": False}])
def test_attention_scores_are_those_that_the_layer_returns(settings):
    model, x = attention(**settings), images(3, 5, 8)
    layer = model.get_layer("attention")
    plain = model(x)
    expected = layer(x, x, return_attention_scores=True)
    outputs, captured = captured_outputs(model, ["attention", "attention:scores", "attention:raw_scores"], x)
    np.testing.assert_allclose(outputs, plain, atol=1e-6)  # the fused kernel and the plain one agree
    np.testing.assert_array_equal(captured["attention"], expected[0])
    np.testing.assert_array_equal(captured["attention:scores"], expected[1])
    np.testing.assert_allclose(keras.ops.softmax(captured["attention:raw_scores"]), expected[1], atol=1e-6)


def test_grouped_attention_scores():
    x = keras.Input((5, 8))
    layer = L.GroupQueryAttention(4, 4, 2, name="attention")
    model, data = keras.Model(x, layer(x, x)), images(3, 5, 8)
    plain = model(data)
    outputs, captured = captured_outputs(model, ["attention:raw_scores", "attention:scores", "attention"], data)
    np.testing.assert_allclose(outputs, plain, atol=1e-6)
    expected = layer(data, data, return_attention_scores=True)[1]
    np.testing.assert_array_equal(captured["attention:scores"], expected)
    np.testing.assert_allclose(keras.ops.softmax(captured["attention:raw_scores"]), expected, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_masked_attention_keeps_its_outputs(causal):
    tokens, mask = keras.Input((5, 8)), keras.Input((5, 5), dtype="bool")
    layer = L.MultiHeadAttention(2, 4, name="attention")
    y = layer(tokens, tokens, use_causal_mask=True) if causal else layer(tokens, tokens, attention_mask=mask)
    model = keras.Model([tokens] if causal else [tokens, mask], y)  # Keras 3.12 refuses an input that nothing uses
    data = [images(3, 5, 8), np.tril(np.ones((3, 5, 5), bool))][: len(model.inputs)]
    outputs, captured = captured_outputs(model, ["attention:scores"], data)
    np.testing.assert_allclose(outputs, model(data), atol=1e-6)
    np.testing.assert_array_equal(np.triu(captured["attention:scores"], 1), 0)


def test_scores_of_a_layer_that_was_set_to_flash_attention():
    model, x = attention(), images(3, 5, 8)
    layer, plain = model.get_layer("attention"), model(x)
    layer._flash_attention = True  # TensorFlow has no such kernel, so the layer cannot be run without scores
    outputs, _ = captured_outputs(model, ["attention:scores"], x)
    np.testing.assert_allclose(outputs, plain, atol=1e-6)
    assert layer._flash_attention is True
