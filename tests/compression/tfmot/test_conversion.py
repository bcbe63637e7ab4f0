"""Models of Keras 3 as models of `tf_keras` and back: weights, outputs, names, settings, errors."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_kd as kd
from keras_kd.compression.tfmot import settings

sys.path.append(str(Path(__file__).parent))
import bridgeable  # noqa: E402

to_tf_keras, from_tf_keras = kd.compression.to_tf_keras, kd.compression.from_tf_keras
FLOAT_NOISE = {"BatchNormalization_0", "LayerNormalization_0", "GroupNormalization_0", "UnitNormalization_0"}


def randomize(model):
    """Random weights, but for those of Normalization: what it computes from them is not computed again."""
    rng = np.random.default_rng(0)
    adapted = {id(one) for layer in model.layers if isinstance(layer, layers.Normalization) for one in layer.weights}
    for weight in model.weights:
        if "float" in weight.dtype and id(weight) not in adapted:
            weight.assign(rng.uniform(0.2, 1.0, weight.shape))
    return model


def examples(model, count=4):
    rng = np.random.default_rng(1)
    return [
        rng.integers(1, 9, (count, *entry.shape[1:])).astype("int32")
        if "int" in entry.dtype
        else rng.normal(size=(count, *entry.shape[1:])).astype(entry.dtype)
        for entry in model.inputs
    ]


def check_same(model, *, atol=0.0):
    """The twin predicts the same and gives the same weights back."""
    legacy = to_tf_keras(model)
    x = examples(model)
    x = x[0] if len(x) == 1 else x
    for ours, theirs in zip(keras.tree.flatten(model(x)), keras.tree.flatten(legacy(x)), strict=True):
        np.testing.assert_allclose(theirs.numpy(), ops.convert_to_numpy(ours), rtol=0, atol=atol)
    other = keras.models.clone_model(model)
    for weight, copy in zip(model.weights, from_tf_keras(legacy, like=other).weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(copy), ops.convert_to_numpy(weight), weight.path)
    return legacy


def test_every_layer():
    model = randomize(bridgeable.every_layer())
    legacy, x = to_tf_keras(model), examples(model)
    ours, theirs = model(x), legacy(x)
    assert ours.keys() == theirs.keys()
    for name in ours:
        atol = 1e-6 if name in FLOAT_NOISE else 0.0
        np.testing.assert_allclose(theirs[name].numpy(), ours[name].numpy(), rtol=0, atol=atol, err_msg=name)
    back = from_tf_keras(legacy, like=keras.models.clone_model(model))
    for weight, copy in zip(model.weights, back.weights, strict=True):
        np.testing.assert_array_equal(copy.numpy(), weight.numpy(), weight.path)
    for name, value in back(x).items():
        np.testing.assert_array_equal(value.numpy(), ours[name].numpy(), name)
    np.testing.assert_allclose(sum(legacy.losses).numpy(), sum(model.losses).numpy(), rtol=1e-5)


def test_every_counterpart_is_compared():
    compared = {*bridgeable.SINGLE, *bridgeable.SEVERAL, *bridgeable.INSIDE_OTHERS, *bridgeable.OF_TOKENS}
    assert compared == settings.COUNTERPARTS


@pytest.mark.parametrize("name", ["elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu",
    "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
    "swish", "tanh"])  # fmt: skip
def test_activations(name):
    model = keras.Sequential([keras.Input((9,)), layers.Activation(name)])
    legacy = to_tf_keras(model)
    x = np.linspace(-8, 8, 90, dtype="float32").reshape(-1, 9)
    np.testing.assert_allclose(legacy(x).numpy(), model(x).numpy(), rtol=1e-6, atol=1e-7)
    kind = type(legacy.layers[0])  # TFMOT rebuilds layers from their configuration
    np.testing.assert_array_equal(kind.from_config(legacy.layers[0].get_config())(x), legacy(x))


def test_a_graph_with_shared_layers_operations_and_nested_models():
    one, other = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    conv = layers.Conv2D(4, 3, padding="same", name="shared")
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 1), layers.BatchNormalization()], name="inner")
    outer = keras.Model(one, ops.relu(inner(conv(one)) * 0.5 + one), name="outer")
    h = ops.concatenate([conv(outer(one)), inner(other)], axis=-1)
    h = ops.maximum(2.0 - h, ops.relu6(h + 3.0) * (1 / 6)) - ops.sigmoid(-h)
    flat = ops.reshape(h, (-1, 6 * 6 * 8))
    outputs = {"flat": layers.Dense(3, name="head")(flat), "deep": [ops.expand_dims(h, 1), ops.tanh(h / 4.0)]}
    model = keras.Model({"a": one, "b": other}, outputs, name="graph")
    legacy = to_tf_keras(model)
    x = dict(zip("ab", examples(model), strict=True))
    ours, theirs = model(x), legacy(x)
    assert list(theirs) == list(ours) and len(theirs["deep"]) == 2
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_array_equal(b.numpy(), a.numpy())
    assert len(legacy.weights) == len(model.weights)
    assert {"shared", "outer", "inner", "head"} <= {layer.name for layer in legacy.layers}
    assert type(legacy.get_layer("inner")).__name__ == "Sequential"


def test_frozen_layers_half_precision_and_fixed_batches():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 8), name="x"),
            layers.Dense(8, "hard_silu", dtype="mixed_float16", name="half"),
            layers.BatchNormalization(trainable=False, name="norm"),
            layers.Dense(3, name="head"),
        ],
        name="chain",
    )
    legacy = check_same(randomize(model))
    assert type(legacy).__name__ == "Sequential" and legacy.name == "chain" and legacy.input_shape == (4, 8)
    assert [layer.name for layer in legacy.layers] == ["half", "norm", "head"]
    assert [layer.trainable for layer in legacy.layers] == [True, False, True]
    assert legacy.layers[0].dtype_policy.name == "mixed_float16"
    assert len(legacy.trainable_weights) == len(model.trainable_weights) == 4
    model.trainable = False
    assert not to_tf_keras(model).trainable_weights


def test_settings_are_carried():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(
                3,
                kernel_initializer=keras.initializers.TruncatedNormal(0.1, 0.2, seed=3),
                kernel_regularizer=keras.regularizers.L2(0.3),
                bias_constraint=keras.constraints.MinMaxNorm(0.1, 0.7, rate=0.5, axis=0),
            ),
        ]
    )
    dense = to_tf_keras(model).layers[0]
    assert dense.kernel_initializer.get_config() == {"mean": 0.1, "stddev": 0.2, "seed": 3}
    assert float(dense.kernel_regularizer.get_config()["l2"]) == pytest.approx(0.3)
    assert dense.bias_constraint.get_config() == {"min_value": 0.1, "max_value": 0.7, "rate": 0.5, "axis": 0}


def test_masks_reach_the_same_layers():
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(9, 8, mask_zero=True)(tokens)
    h = layers.Add()([layers.Dropout(0.1)(h), layers.Dense(8, "tanh")(h)])
    states = layers.LSTM(4, return_sequences=True, return_state=True)(layers.Concatenate()([h, h]))
    decoded = layers.LSTM(4)(layers.TimeDistributed(layers.Dense(3))(h))
    attended = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(h, states[0]))
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True))(h)
    model = keras.Model(tokens, [decoded, attended, both, layers.GlobalAveragePooling1D()(h)])
    x = np.random.default_rng(0).integers(1, 9, (5, 6)).astype("int32")
    x[1, 4:], x[2, 1:] = 0, 0
    legacy = to_tf_keras(model)
    for ours, theirs in zip(model(x), legacy(x), strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), rtol=0, atol=1e-6)
    unmasked = np.where(x == 0, 8, x)
    assert np.abs(legacy(x)[3].numpy() - legacy(unmasked)[3].numpy()).max() > 1e-3


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


def sequential(*inner, shape=(8,)):
    return keras.Sequential([keras.Input(shape), *inner])


def function(operation):
    x = keras.Input((8,), name="x")
    return keras.Model(x, operation(x))


def tied():
    x, dense = keras.Input((4, 8)), layers.Dense(8)
    return keras.Model(x, layers.TimeDistributed(dense)(x) + dense(x))


class Subclassed(keras.Model):
    def call(self, x):
        return x


ERRORS = {
    "a custom layer": (lambda: sequential(Doubled(name="twice")), "'twice' has no counterpart"),
    "a new layer": (lambda: sequential(layers.RMSNormalization(name="rms")), "'rms' has no counterpart"),
    "an inner layer": (
        lambda: sequential(layers.RepeatVector(3), layers.TimeDistributed(layers.RMSNormalization(name="in"))),
        "/in' has no counterpart in tf_keras. Received: a RMSNormalization",
    ),
    "an activation": (lambda: sequential(layers.Dense(2, "celu", name="d")), "activation of 'd'.*'celu'"),
    "a function as activation": (lambda: sequential(layers.Dense(2, Doubled(), name="d")), "activation of 'd'"),
    "a setting": (
        lambda: gated(),
        "setting of layer 'm'.*use_gate",
    ),
    "low-rank adapters": (lambda: adapted(), "setting of layer 'd'.*lora_rank=2"),
    "an operation": (lambda: function(lambda x: ops.cumsum(x, axis=1)), "'cumsum.*' has no counterpart.*Cumsum"),
    "integers": (lambda: function(lambda x: ops.cast(x, "int32") + 1), "has no counterpart"),
    "tensors of other ranks": (lambda: function(lambda x: x + ops.expand_dims(x, 1)), "Add.*equal rank"),
    "a reshape of the batch": (lambda: function(lambda x: ops.reshape(x, (-1, 2))), "Reshape.*keep the batch"),
    "a shared layer in a wrapper": (tied, "shares weights in a way that tf_keras cannot"),
    "a frozen part": (lambda: partly_frozen(), "'m' is frozen in parts"),
    "a compressed model": (lambda: compressed(), "compressed already.*strip"),
    "a mask in one of both": (lambda: with_initial_state(), "'second' would run with another mask"),
    "a subclassed model": (Subclassed, "cannot be read as a graph"),
    "no model": (lambda: 3, "Only a model"),
}


def compressed():
    return kd.compression.Pruning(0.5).apply(sequential(layers.Dense(4)), verbose=False)


def with_initial_state():
    """Keras 3 passes the second layer no mask, unlike tf_keras."""
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(9, 8, mask_zero=True)(tokens)
    _, *states = layers.LSTM(4, return_state=True)(h)
    return keras.Model(tokens, layers.LSTM(4, name="second")(h, initial_state=states))


def gated():
    x = keras.Input((4, 8))
    return keras.Model(x, layers.MultiHeadAttention(2, 3, use_gate=True, name="m")(x, x))


def adapted():
    model = sequential(layers.Dense(4, name="d"))
    model.layers[0].enable_lora(2)
    return model


def partly_frozen():
    x = keras.Input((4, 8))
    attention = layers.MultiHeadAttention(2, 3, name="m")
    model = keras.Model(x, attention(x, x))
    attention.query_dense.trainable = False
    return model


@pytest.mark.parametrize("case", ERRORS)
def test_what_has_no_counterpart_is_an_error(case):
    make, message = ERRORS[case]
    with pytest.raises(kd.errors.ConfigurationError, match=f"(?s){message}"):
        to_tf_keras(make())


def test_weights_that_do_not_correspond_are_an_error():
    model = sequential(layers.Dense(4, name="one"), layers.Dense(3, name="two"))
    legacy = to_tf_keras(model)
    with pytest.raises(kd.errors.ConfigurationError, match="only the tf_keras model has: 'two'; that only 'like' has"):
        from_tf_keras(legacy, like=sequential(layers.Dense(4, name="one"), layers.Dense(3, name="three")))
    with pytest.raises(kd.errors.ConfigurationError, match="'two' do not correspond.*4, 3.*4, 5"):
        from_tf_keras(legacy, like=sequential(layers.Dense(4, name="one"), layers.Dense(5, name="two")))
    with pytest.raises(kd.errors.ConfigurationError, match="'two' do not correspond.*float32.*bfloat16"):
        from_tf_keras(
            legacy, like=sequential(layers.Dense(4, name="one"), layers.Dense(3, name="two", dtype="bfloat16"))
        )
    with pytest.raises(kd.errors.ConfigurationError, match="Only a model of tf_keras"):
        from_tf_keras(model, like=model)


def test_neither_model_is_changed_or_shared():
    model = randomize(sequential(layers.Dense(4, name="one")))
    before = [weight.numpy() for weight in model.weights]
    legacy = to_tf_keras(model)
    for variable in legacy.weights:
        variable.assign(variable + 1)
    back = from_tf_keras(legacy, like=model)
    for old, weight, new in zip(before, model.weights, back.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
        np.testing.assert_array_equal(new.numpy(), old + 1)


@pytest.mark.long
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121", "MobileNetV3Small"])
def test_keras_applications(name):
    build = getattr(keras.applications, name)
    settings = {"include_preprocessing": True} if name == "MobileNetV3Small" else {}
    model = build(weights=None, input_shape=(64, 64, 3), classes=10, **settings)
    x = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    legacy = to_tf_keras(model)
    np.testing.assert_allclose(legacy(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-7)
    back = from_tf_keras(legacy, like=keras.models.clone_model(model))
    for weight, copy in zip(model.weights, back.weights, strict=True):
        np.testing.assert_array_equal(copy.numpy(), weight.numpy())
