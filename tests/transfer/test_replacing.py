"""A fresh head on a trained trunk: heads of many kinds, and the models that are refused."""

import warnings

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, Notice
from keras_kd.features import find_heads
from keras_kd.transfer import replace_head

L = keras.layers


def dense(activation=None):
    return keras.Sequential([keras.Input((6,)), L.Dense(4, name="body"), L.Dense(10, activation, name="head")])


def separate():
    x = keras.Input((6,))
    y = L.Dense(10, name="head")(L.Dropout(0.5)(L.Dense(4, name="body")(x)))
    return keras.Model(x, L.Softmax(name="probabilities")(y))


def convolution():
    """As in MobileNetV3: a 1x1 convolution, flattened."""
    x = keras.Input((8, 8, 3))
    y = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(4, 3, name="body")(x))
    y = L.Flatten()(L.Conv2D(10, 1, name="head")(y))
    return keras.Model(x, L.Activation("softmax", name="probabilities")(y))


def reshaped():
    """As in MobileNet."""
    x = keras.Input((8, 8, 3))
    y = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(4, 3, name="body")(x))
    y = L.Reshape((10,))(L.Conv2D(10, 1, name="head")(y))
    return keras.Model(x, L.Activation("softmax")(y))


def pooled_maps():
    x = keras.Input((8, 8, 3))
    y = L.Conv2D(10, 1, name="head")(L.Conv2D(4, 3, name="body")(x))
    return keras.Model(x, L.GlobalAveragePooling2D()(y))


def nested():
    body = keras.Sequential([keras.Input((6,)), L.Dense(4, name="body"), L.BatchNormalization()], name="trunk")
    tail = keras.Sequential([keras.Input((4,)), L.Dense(10, name="head"), L.Softmax()], name="tail")
    x = keras.Input((6,))
    return keras.Model(x, tail(body(x)))


def steps():
    x = keras.Input((5, 6))
    return keras.Model(x, L.TimeDistributed(L.Dense(10, activation="softmax"), name="head")(L.Dense(4, name="body")(x)))


ENDS = {
    dense: "linear",
    lambda: dense("softmax"): "softmax",
    lambda: dense("sigmoid"): "sigmoid",
    separate: "softmax",
    convolution: "softmax",
    reshaped: "softmax",
    pooled_maps: "linear",
    nested: "softmax",
    steps: "softmax",
}


def named(model, name):
    (layer,) = {
        id(one): one for path, one in kd.surgery.layers_by_path(model).items() if path.split("/")[-1] == name
    }.values()
    return layer


@pytest.mark.parametrize(("make", "end"), ENDS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_fresh_head_on_the_same_trunk(make, end):
    model = make()
    model.trainable = False
    before = [np.array(weight) for weight in model.weights]
    with pytest.warns(Notice, match="ends in logits, as" if end == "linear" else f"ends in a {end}, as the old one"):
        new = replace_head(model, 5)
    assert new.output_shape == (*model.output_shape[:-1], 5) and new is not model and not new.compiled
    assert find_heads(new)["output"].activation == end
    np.testing.assert_array_equal(named(new, "body").kernel, named(model, "body").kernel)
    assert named(new, "body").kernel is not named(model, "body").kernel
    assert not named(new, "body").trainable
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    assert model.output_shape[-1] == 10


@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid"])
@pytest.mark.parametrize("make", [dense, separate, convolution, reshaped, nested, steps])
def test_the_head_ends_in_the_chosen_activation(make, activation):
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        new = replace_head(make(), 3, activation=activation)
    assert find_heads(new)["output"].activation == activation
    x = np.random.default_rng(0).normal(size=(2, *new.input_shape[1:])).astype("float32")
    logits = replace_head(new, 3, activation="linear")
    named(logits, "head").set_weights(named(new, "head").get_weights())
    z = np.asarray(logits(x), "float64")
    expected = {
        "linear": z,
        "softmax": np.exp(z) / np.exp(z).sum(-1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-z)),
    }
    np.testing.assert_allclose(np.asarray(new(x)), expected[activation], atol=1e-6)


def test_the_features_below_the_head_are_those_of_the_model():
    model, x = convolution(), np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    new = replace_head(model, 5, activation="linear")
    features = [keras.Model(one.input, one.get_layer("body").output)(x) for one in (model, new)]
    np.testing.assert_array_equal(*features)


def test_two_heads_start_from_different_weights():
    """Also if the old one was initialized, then trained."""
    model = dense()
    one, other = (named(replace_head(model, 10, activation="linear"), "head").get_weights()[0] for _ in range(2))
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - named(model, "head").get_weights()[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "MobileNet"])
def test_models_of_keras_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), alpha=0.35 if name[-1] == "2" else 1.0
    )
    new = replace_head(model, 4, activation="linear")
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    assert new(x).shape == (1, 4) and find_heads(new)["output"].is_logits
    same = {weight.path: weight for weight in model.weights}
    kept = [weight for weight in new.weights if weight.path in same and weight.shape == same[weight.path].shape]
    assert len(kept) == len(new.weights) - 2
    for weight in kept:
        np.testing.assert_array_equal(weight, same[weight.path])


def test_a_model_of_the_package():
    model = kd.models.resnet8((32, 32, 3), 10)
    with pytest.warns(Notice, match="ends in logits"):
        assert replace_head(model, 7).output_shape == (None, 7)


def test_one_of_several_outputs():
    x = keras.Input((6,))
    y = L.Dense(4, name="body")(x)
    model = keras.Model(x, {"animal": L.Dense(10, name="a")(y), "color": L.Dense(3, name="c")(y)})
    with pytest.raises(ConfigurationError, match="several outputs.*'animal', 'color'"):
        replace_head(model, 5)
    new = replace_head(model, 5, output="animal", activation="linear")
    assert {name: tensor.shape[-1] for name, tensor in new.output.items()} == {"animal": 5, "color": 3}
    np.testing.assert_array_equal(new.get_layer("c").kernel, model.get_layer("c").kernel)
    with pytest.raises(ConfigurationError, match="Unknown output.*Did you mean 'animal'"):
        replace_head(model, 5, output="animals")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = L.Dense(3)

    def call(self, x):
        return self.head(x)


def own_activation():
    return keras.Sequential([keras.Input((6,)), L.Dense(10, activation=lambda z: z / keras.ops.sum(z))])


def two_heads_added():
    x = keras.Input((6,))
    return keras.Model(x, L.Add()([L.Dense(10, name="one")(x), L.Dense(10, name="two")(x)]))


def pooled_softmax():
    x = keras.Input((8, 8, 3))
    return keras.Model(x, L.GlobalAveragePooling2D()(L.Conv2D(10, 1, name="head")(x)))


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (Subclassed, {}, "cannot be read as a graph"),
        (lambda: "model.keras", {}, "cannot be read as a graph"),
        (lambda: keras.Sequential([L.Dense(3)]), {}, "has not been built"),
        (dense, {"num_classes": 0}, "Invalid 'num_classes'"),
        (dense, {"num_classes": 2.0}, "Invalid 'num_classes'"),
        (dense, {"activation": "relu"}, "Invalid 'activation'"),
        (lambda: dense("softmax"), {"num_classes": 1}, "softmax of a single unit is always 1"),
        (lambda: keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid")]), {}, "single unit"),
        (own_activation, {}, "Cannot tell whether the model ends in logits"),
        (two_heads_added, {"activation": "linear"}, "an operation with 2 inputs"),
        (pooled_softmax, {"activation": "softmax"}, "no activation, and 'global_average"),
        (lambda: keras.Sequential([keras.Input((6, 2)), L.LSTM(4)]), {"activation": "linear"}, "a LSTM"),
        (lambda: keras.Sequential([keras.Input((6,)), L.Dense(4), L.BatchNormalization()]), {}, "BatchNormalization"),
        (lambda: keras.Sequential([keras.Input((6,)), L.ReLU()]), {"activation": "linear"}, "0 inputs"),
    ],
)
def test_what_is_refused(make, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        replace_head(make(), **{"num_classes": 5, **settings})


def test_mixed_precision_keeps_the_policies():
    x = keras.Input((6,))
    y = L.Dense(4, dtype="mixed_float16", name="body")(x)
    model = keras.Model(x, L.Activation("softmax", dtype="float32")(L.Dense(10, dtype="float32", name="head")(y)))
    new = replace_head(model, 5, activation="linear")
    assert new.get_layer("body").dtype_policy.name == "mixed_float16"
    assert new.layers[-1].dtype_policy.name == "float32" and new.output.dtype == "float32"
