"""Folded batch normalization: outputs are unchanged, and layers that cannot be folded are kept and named."""

import keras
import numpy as np
import pytest

from keras_kd.features.paths import find_place
from keras_kd.surgery.folding import find_foldable, fold
from keras_kd.surgery.precision import Copy

L = keras.layers


def shake(model):
    """Assigns random statistics, scales and shifts, so that no batch normalization is trivial."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2.0, weight.shape) for weight in layer.weights])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def model_of(shape, *layers):
    return shake(keras.Sequential([keras.Input(shape), *layers]))


def folded(model):
    return Copy(model, "float32", find_foldable(model)).model


def assert_same(model, copy, inputs):
    expected = np.asarray(model(inputs))
    np.testing.assert_allclose(np.asarray(copy(inputs)), expected, rtol=0, atol=1e-5 * np.std(expected))


def test_the_formula():
    """Against the two operations in sequence, in float64."""
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(7, 3)), rng.normal(size=(3, 4))
    bias, gamma, beta, mean, variance = rng.uniform(0.5, 2.0, size=(5, 4))
    expected = gamma * (x @ kernel + bias - mean) / np.sqrt(variance + 1e-3) + beta
    new_kernel, new_bias = fold(kernel, bias, gamma, beta, mean, variance, epsilon=1e-3)
    np.testing.assert_allclose(x @ new_kernel + new_bias, expected, rtol=1e-12)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((9,), lambda **kw: L.Dense(4, **kw)),
        ((5, 3), lambda **kw: L.Dense(4, **kw)),
        ((9, 3), lambda **kw: L.Conv1D(4, 3, strides=2, **kw)),
        ((7, 7, 4), lambda **kw: L.Conv2D(6, 3, groups=2, padding="same", **kw)),
        ((5, 5, 5, 2), lambda **kw: L.Conv3D(4, 3, **kw)),
        ((9, 3), lambda **kw: L.Conv1DTranspose(4, 3, strides=2, **kw)),
        ((5, 5, 3), lambda **kw: L.Conv2DTranspose(4, 3, strides=2, **kw)),
        ((3, 3, 3, 2), lambda **kw: L.Conv3DTranspose(4, 3, **kw)),
        ((9, 3), lambda **kw: L.DepthwiseConv1D(3, depth_multiplier=2, **kw)),
        ((7, 7, 3), lambda **kw: L.DepthwiseConv2D(3, depth_multiplier=2, **kw)),
        ((9, 3), lambda **kw: L.SeparableConv1D(4, 3, **kw)),
        ((7, 7, 3), lambda **kw: L.SeparableConv2D(4, 3, depth_multiplier=2, **kw)),
    ],
)
def test_every_linear_layer(shape, layer, use_bias):
    model = model_of(shape, layer(use_bias=use_bias), L.BatchNormalization(epsilon=0.1), L.ReLU())
    copy = folded(model)
    assert not any(isinstance(inner, L.BatchNormalization) for inner in copy.layers)
    assert_same(model, copy, np.random.default_rng(2).normal(size=(3, *shape)).astype("float32"))


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"trainable": False}])
def test_without_scale_or_shift(settings):
    model = model_of((6, 6, 2), L.Conv2D(3, 3), L.BatchNormalization(**settings), L.ReLU(), L.Conv2D(2, 3))
    assert str(find_foldable(model)) == "1 of 1 batch normalizations"
    assert_same(model, folded(model), np.random.default_rng(2).normal(size=(3, 6, 6, 2)).astype("float32"))


class OwnNorm(L.BatchNormalization):
    pass


@keras.saving.register_keras_serializable("test_folding")
class Block(L.Layer):
    """A user-defined layer whose inner layers are not visible in the graph."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.conv, self.norm = L.Conv2D(3, 1), L.BatchNormalization()

    def call(self, x):
        return self.norm(self.conv(x))


def shared(x):
    conv = L.Conv2D(2, 1)
    return L.Add()([L.BatchNormalization(name="norm")(conv(x)), conv(L.ReLU()(x))])


def read_twice(x):
    y = L.Conv2D(2, 1)(x)
    return L.Add()([L.BatchNormalization(name="norm")(y), y])


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (lambda x: L.BatchNormalization(name="norm")(x), "follows 'image', a InputLayer"),
        (lambda x: L.BatchNormalization(name="norm")(L.ReLU(name="relu")(x)), "follows 'relu', a ReLU"),
        (lambda x: L.BatchNormalization(name="norm")(L.Conv2D(2, 1, activation="relu")(x)), "activation of its own"),
        (lambda x: OwnNorm(name="norm")(L.Conv2D(2, 1)(x)), "a OwnNorm"),
        (lambda x: L.BatchNormalization(name="norm", axis=1)(L.Conv2D(2, 1)(x)), "axis"),
        (lambda x: L.BatchNormalization(name="norm")(L.Conv2D(2, 1)(x), training=True), "training mode"),
        (read_twice, "read elsewhere"),
        (shared, "runs more than once"),
        (lambda x: Block(name="block")(x), "without a symbolic graph"),
    ],
)
def test_what_is_left_as_it_is_and_why(graph, reason):
    x = keras.Input((4, 4, 2), name="image")
    model = shake(keras.Model(x, graph(x)))
    folding = find_foldable(model)
    assert not folding.pairs and reason in next(iter(folding.kept.values()))
    assert_same(model, folded(model), np.random.default_rng(2).normal(size=(5, 4, 4, 2)).astype("float32"))


def test_what_leaves_the_model_is_read():
    x = keras.Input((4, 4, 2))
    y = L.Conv2D(2, 1)(x)
    assert not find_foldable(keras.Model(x, [L.BatchNormalization()(y), y])).pairs


def nested():
    stages = [L.Conv2D(3, 3, name="conv"), L.BatchNormalization(name="norm")]
    body = keras.Sequential([keras.Input((6, 6, 2)), *stages], name="body")
    x = keras.Input((6, 6, 2))
    inner = keras.Input((4, 4, 3))
    head = keras.Model(inner, L.BatchNormalization(name="norm")(L.Conv2D(3, 1, name="conv")(inner)), name="head")
    features = body(x)
    y = L.Add()([head(features), head(L.ReLU()(features))])  # the whole model runs twice
    return shake(keras.Model(x, keras.ops.mean(y + 1.0, axis=(1, 2)) * 2.0))


def test_nested_models_and_bare_operations():
    model = nested()
    assert set(find_foldable(model).pairs) == {"body/norm", "head/norm"}
    assert_same(model, folded(model), np.random.default_rng(2).normal(size=(5, 6, 6, 2)).astype("float32"))


def test_the_model_is_left_as_it_is():
    model = nested()
    model.compile(optimizer="adam", loss="mse")

    def state():
        layers = [layer for layer in model._flatten_layers() if layer is not model]
        return [
            (layer.name, layer.trainable, layer.dtype_policy.name, len(layer._inbound_nodes), len(layer.weights))
            for layer in layers
        ] + [operation.name for operation in model.operations]

    before, weights = state(), model.get_weights()
    copy = Copy(model, "bfloat16", find_foldable(model)).model
    assert state() == before and model.trainable and model.compiled
    assert not copy.compiled
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("body/conv", {"body/norm"}),
        ("body/conv:preactivation", {"body/norm"}),
        ("body/norm:input", {"body/norm"}),
        ("body/conv:input", set()),
        ("body/norm", set()),
        ("head/conv#1", {"head/norm"}),
    ],
)
def test_which_places_folding_would_change(path, read):
    model = nested()
    assert find_foldable(model).read([find_place(model, path)]) == read
