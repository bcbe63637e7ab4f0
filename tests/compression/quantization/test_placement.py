"""Where activations are rounded: at the ends of what an integer file computes in one operation."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.compression import QuantizationAware
from keras_kd.compression.quantization.placement import roundings
from keras_kd.surgery import layers_by_path


def placed(model, skip=(), **settings):
    """The outputs that have a quantizer of their own, and why the others have none."""
    found = roundings(model, skip, **settings)
    return [r.path for r in found if not r.reason], {r.path: r.reason for r in found if r.reason}


def test_a_convolution_its_normalization_and_its_relu_are_one_unit():
    x = h = keras.Input((8, 8, 3), name="image")
    for layer in (
        layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"), layers.ReLU(6.0, name="relu"),
        layers.DepthwiseConv2D(3, name="depthwise"), layers.BatchNormalization(name="norm_2"),
        layers.MaxPooling2D(name="pool"), layers.Conv2D(4, 1, activation="relu", name="conv_2"),
        layers.Flatten(name="flatten"), layers.Dense(2, name="head"),
    ):  # fmt: skip
        h = layer(h)
    own, others = placed(keras.Model(x, h))
    assert own == ["image", "relu", "norm_2", "conv_2", "head"]
    assert others["conv"] == "fused with 'norm'" and others["norm"] == "fused with 'relu'"
    assert others["pool"] == others["flatten"] == "passes its input through unchanged"


def test_what_has_a_second_reader_is_rounded():
    x = keras.Input((4,), name="x")
    h = layers.Dense(4, name="dense")(x)
    y = layers.Add(name="add")([h, layers.ReLU(name="relu")(h)])
    z = layers.ReLU(name="last")(y)
    assert placed(keras.Model(x, z))[0] == ["x", "dense", "relu", "last"]
    assert placed(keras.Model(x, [y, z]))[0] == ["x", "dense", "relu", "add", "last"]


def test_the_inputs_of_a_concatenation_get_its_range():
    x = keras.Input((4,), name="x")
    a, b = layers.Dense(4, name="a")(x), layers.Dense(4, "sigmoid", name="b")(x)
    c = layers.Dense(4, name="c")(x)
    joined = layers.Concatenate(name="joined")([a, b, c])
    own, others = placed(keras.Model(x, layers.Dense(2, name="head")(layers.Concatenate(name="again")([joined, c]))))
    assert sorted(own) == ["again", "b", "c", "head", "x"]  # a sigmoid's range is fixed, and `c` has two readers
    assert others == {"a": "gets the range of 'joined'", "joined": "gets the range of 'again'"}


def test_bare_operations_and_nested_models():
    block = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one"), layers.ReLU(name="relu")], name="block")
    x = keras.Input((4,), name="x")
    y = block(x) + x * 2.0
    names = [layer.name for layer in keras.Model(x, y).operations if "multiply" in layer.name or "add" in layer.name]
    own, others = placed(keras.Model(x, y))
    assert sorted(own) == sorted(["x", "block/relu", *names])
    assert others == {"block/one": "fused with 'relu'"}


def test_a_skipped_layer_is_not_rounded_nor_fused_into():
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(4, name="one"), layers.ReLU(name="relu")])
    own, others = placed(model, skip=["relu"])
    assert own == ["x", "one"] and others["relu"] == "listed in skip"


@pytest.mark.parametrize("functional", [True, False])
def test_average_pooling_has_the_range_of_its_input(functional):
    x = keras.Input((8, 8, 3), name="x")
    model = keras.Sequential([x, layers.Conv2D(4, 3, name="conv"), layers.AveragePooling2D(2, name="pool")])
    model = keras.Model(model.inputs[0], model.outputs[0]) if functional else model
    found = {r.path: r for r in roundings(model, ())}
    assert found["pool"].source is (found["conv"].tensor if functional else None)


def test_a_model_that_runs_twice_is_rounded_once():
    block = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one")], name="block")
    x = keras.Input((4,), name="x")
    found = {r.path: r.runs for r in roundings(keras.Model(x, block(block(x))), ())}
    assert found == {"x": 1, "block/one": 2}


def test_a_model_in_two_others_runs_in_both():
    def around(inner, name):
        x = keras.Input((4,))
        return keras.Model(x, inner(x), name=name)

    block = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one")], name="block")
    left, right, x = around(block, "left"), around(block, "right"), keras.Input((4,), name="x")
    model = keras.Model(x, layers.Add(name="sum")([left(x), right(right(x))]))
    found = {r.path.removeprefix("left/").removeprefix("right/"): r.runs for r in roundings(model, ())}
    assert found == {"x": 1, "block/one": 3, "sum": 1}
    model = QuantizationAware().apply(model, verbose=False)
    model(np.ones((1, 4), "float32"), training=True)
    quantizer = layers_by_path(model)["left/block/one_quantizer"]
    assert int(quantizer.count) == quantizer.calls == 3


def test_whole_numbers_are_not_rounded():
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    h = layers.Embedding(5, 3, name="table")(tokens)
    assert placed(keras.Model(tokens, h))[0] == ["table"]
    assert placed(keras.Model(tokens, h), passes=lambda layer: True)[0] == []
