"""A smaller model equals the original with the removed channels at zero, in every way that channels take."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from prunable import MODELS, examples, masked, perceptron, randomized, residual

from keras_kd import compression
from keras_kd.compression import ChannelPruning, Pruning, operations
from keras_kd.errors import ConfigurationError


@pytest.fixture(params=MODELS)
def model(request):
    return randomized(MODELS[request.param]())


def widths(report):
    """The numbers of channels by layer."""
    return {layer: (row.before, row.after) for row in report.rows for layer in row.layers}


def reasons(model):
    report = ChannelPruning(parameters=1.0).report(model)
    return {layer: row.reason for row in report.rows for layer in row.layers if row.reason}


def test_the_output_is_that_of_the_model_with_the_removed_channels_at_zero(model, tmp_path):
    x = examples(model)
    prune = ChannelPruning(operations=0.6)
    weights, report = [w.copy() for w in model.get_weights()], prune.report(model)
    small = prune.apply(model, verbose=False)
    expected, made = masked(model, small)(x), small(x)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(made) - np.asarray(model(x))).max() > 1e-3
    # what the report says is what happened
    assert operations(small) == report.after <= 0.6 * report.before == 0.6 * operations(model)
    assert all(np.array_equal(one, other) for one, other in zip(weights, model.get_weights(), strict=True))
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert {type(layer).__module__.split(".")[0] for layer in small.layers} == {"keras"}
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "small.keras")(x), made)


def test_every_layer_of_these_models_can_shrink(model):
    """Otherwise the test above would not see a rule that gives up."""
    whole = {layer: reason for layer, reason in reasons(model).items() if layer != "head"}
    expected = {
        "concatenated": {"hidden": "enters 'after' with its axes reordered"},
        "transformer": {"down": "joined with channels that stay"},
    }
    assert whole == expected.get(model.name, {})


class MaskedLayerNormalization(layers.LayerNormalization):
    """Statistics over the channels whose gamma is not zero."""

    def call(self, inputs):
        mask = ops.cast(self.gamma != 0, inputs.dtype)
        count = ops.sum(mask)
        mean = ops.sum(inputs * mask, axis=-1, keepdims=True) / count
        variance = ops.sum(mask * (inputs - mean) ** 2, axis=-1, keepdims=True) / count
        return (inputs - mean) / ops.sqrt(variance + self.epsilon) * self.gamma + self.beta


def test_the_width_of_a_transformer_leaves_through_its_normalizations():
    tokens = keras.Input((5,), dtype="int32")
    h = layers.Embedding(30, 8, name="embedding")(tokens)
    h = layers.Add()([h, layers.MultiHeadAttention(2, 3, name="attention")(h, h)])
    h = layers.LayerNormalization(name="norm")(h)
    h = layers.Add()([h, layers.Dense(8, name="down")(layers.Dense(12, activation="relu", name="up")(h))])
    h = layers.GlobalAveragePooling1D()(layers.RMSNormalization(name="last")(h))
    model = randomized(keras.Model(tokens, layers.Dense(5, name="head")(h)))
    small = ChannelPruning(parameters=0.7, skip=["last"]).apply(model, verbose=False)
    assert small.get_layer("embedding").output_dim == 8  # what `skip` names keeps its shape, and all that is coupled
    small = ChannelPruning(parameters=0.4, scope="local").apply(model, verbose=False)
    assert small.get_layer("embedding").output_dim < 8 and small.get_layer("attention").num_heads == 1
    expected = masked(model, small)
    scale = small.get_layer("embedding").output_dim / 8  # the mean square of RMSNormalization, over fewer channels

    def kind(layer):
        if isinstance(layer, layers.LayerNormalization):
            return MaskedLayerNormalization.from_config(layer.get_config())
        if isinstance(layer, layers.RMSNormalization):
            return layers.RMSNormalization(name=layer.name, epsilon=layer.epsilon * scale)
        return layer.__class__.from_config(layer.get_config())

    twin = keras.models.clone_model(expected, clone_function=kind)
    twin.set_weights(expected.get_weights())
    twin.get_layer("last").scale.assign(twin.get_layer("last").scale * np.sqrt(scale))
    x = examples(model)
    np.testing.assert_allclose(small(x), twin(x), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_followed_stays_and_is_reported():
    x = keras.Input((6, 6, 3))
    a = layers.Conv2D(4, 1, name="to_lambda")(x)
    b = layers.Conv2D(4, 1, name="to_softmax")(x)
    c = layers.Conv2D(4, 1, name="to_slice")(x)
    d = layers.Conv2D(4, 1, activation="softmax", name="softmax_inside")(x)
    e = layers.Conv2D(1, 1, name="single")(x)
    f = layers.Conv2D(4, 1, name="free")(x)
    a = layers.Lambda(lambda value: value[..., ::-1], name="flip")(a)
    b = layers.Softmax(name="softmax")(b)
    h = layers.Concatenate()([a, b, c[..., :2], d, layers.Multiply()([e, f]), x])
    model = randomized(keras.Model(x, [layers.Conv2D(2, 1, name="out")(h), layers.GlobalMaxPooling2D()(h)[:, :1]]))
    found = reasons(model)
    assert "'flip', a Lambda" in found["to_lambda"] and "softmax over channels" in found["to_softmax"]
    assert "a GetItem" in found["to_slice"] and "activation of 'softmax_inside'" in found["softmax_inside"]
    assert found["single"] == "broadcast over other channels" and found["out"] == "an output of the model"
    # the outputs and the inputs of a slice keep their shapes, so that only `free` is left, which is sliced as well
    assert "a GetItem" in found["free"]
    with pytest.raises(ConfigurationError, match="(?s)cannot reduce .* this far.*a Lambda"):
        ChannelPruning(operations=0.9).apply(model)


class Scaled(layers.Layer):
    """A custom layer, which may do anything."""

    def call(self, inputs):
        return 2 * inputs


def test_custom_and_tied_layers_stay():
    x = keras.Input((4,), dtype="int32")
    embedding = layers.Embedding(9, 6, name="embedding")
    h = Scaled(name="scaled")(layers.Dense(6, name="before")(embedding(x)))
    h = layers.Dense(9, name="after")(h)
    logits = ops.matmul(h, embedding.embeddings)
    found = reasons(randomized(keras.Model(x, logits)))
    assert "'scaled', a Scaled" in found["before"] and "a Matmul" in found["after"]
    assert "its weights are read by" in found["embedding"]


def test_half_precision_and_frozen_layers_stay_as_they_are():
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(8, 3, dtype="mixed_float16", kernel_regularizer="l2", name="conv")(x)
    h = layers.BatchNormalization(dtype="mixed_float16", trainable=False, name="norm")(h)
    h = layers.SeparableConv2D(8, 3, dtype="bfloat16", name="half")(h)
    model = randomized(keras.Model(x, layers.Dense(3, name="head")(layers.Flatten()(h))))
    model.get_layer("norm").gamma.assign(np.arange(1.0, 9.0))
    small = ChannelPruning(operations=0.6, score="batch_norm").apply(model, verbose=False)
    conv, norm, half = (small.get_layer(name) for name in ("conv", "norm", "half"))
    assert conv.dtype_policy.name == "mixed_float16" and conv.kernel_regularizer is not None
    assert not norm.trainable and half.pointwise_kernel.dtype == "bfloat16"
    kept = np.asarray(norm.gamma)
    assert len(kept) < 8 and kept.tolist() == list(range(9 - len(kept), 9))  # the largest scales
    assert half.filters == 8  # without a normalization, and so without this score
    assert np.isfinite(np.asarray(small(examples(model)))).all()


def test_widths_are_multiples_and_every_group_keeps_channels():
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(24, 3, name="wide")(x)
    h = layers.Conv2D(20, 3, name="odd")(h)
    h = layers.Conv2D(4, 3, name="narrow")(h)
    model = randomized(keras.Model(x, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(h))))
    for fraction in (0.8, 0.5, 0.3):
        found = widths(ChannelPruning(operations=fraction, multiple_of=8).report(model))
        assert found["wide"][1] in (8, 16, 24) and found["odd"][1] in (8, 16, 20) and found["narrow"][1] == 4
    least = ChannelPruning(operations=0.04, scope="local").apply(model, verbose=False)
    assert min(layer.filters for layer in least.layers if isinstance(layer, layers.Conv2D)) >= 1


def test_taylor_keeps_what_the_loss_needs():
    """Of the two units that the labels need, and six that no label depends on, the two stay."""
    model = randomized(
        keras.Sequential([keras.Input((8,)), layers.Dense(8, name="units"), layers.Dense(2, name="head")])
    )
    model.get_layer("units").kernel.assign(np.eye(8))
    model.get_layer("head").kernel.assign(np.vstack([np.eye(2), 1e-3 * np.ones((6, 2))]))
    x = np.random.default_rng(0).normal(size=(64, 8))
    y = x[:, :2] * 3
    before = model.get_weights()
    prune = ChannelPruning(parameters=0.3, score="taylor", data=(x, y), loss="mean_squared_error")
    small = prune.apply(model, verbose=False)
    np.testing.assert_array_equal(small.get_layer("units").kernel, np.eye(8)[:, :2])
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


def test_a_latency_is_reached_by_measuring_smaller_models():
    model, measured = randomized(residual()), []

    def measure(candidate):
        measured.append(operations(candidate))
        return measured[-1] * 1e-6

    report = ChannelPruning(latency=0.7, measure=measure).report(model)
    assert report.after == pytest.approx(ChannelPruning(operations=0.7).report(model).after * 1e-6)
    assert len(measured) < 8 and "latency" in str(report)


@pytest.mark.parametrize("seconds", [0, 0.0, -1.0, float("nan"), None, "1"])
def test_a_measure_returns_a_number_above_zero(seconds):
    with pytest.raises(ConfigurationError, match=r"Invalid 'measure\(model\)'"):
        ChannelPruning(latency=0.5, measure=lambda model: seconds).report(perceptron())


def test_a_measure_that_is_zero_for_a_smaller_model():
    measured = iter([1e-3, 0.0])
    with pytest.raises(ConfigurationError, match="seconds above 0"):
        ChannelPruning(latency=0.5, measure=lambda model: next(measured)).report(perceptron())


def test_a_model_with_nothing_to_reduce():
    tokens = keras.Input((5,), dtype="int32")
    pooled = keras.Model(tokens, layers.GlobalAveragePooling1D()(layers.Embedding(9, 6)(tokens)))
    with pytest.raises(ConfigurationError, match="no operations to reduce.*Set a target of 'parameters'"):
        ChannelPruning(operations=0.5).report(pooled)
    x = keras.Input((4,))
    with pytest.raises(ConfigurationError, match="no parameters to reduce"):
        ChannelPruning(parameters=0.5).apply(keras.Model(x, layers.ReLU()(x)))


def test_heads_are_rounded_as_channels_are():
    x = keras.Input((6, 8))
    h = layers.Dense(8, name="wide")(layers.MultiHeadAttention(4, 3, output_shape=16, name="attention")(x, x))
    model = randomized(keras.Model(x, layers.Dense(2, name="head")(h)))

    def heads(multiple_of):
        report = ChannelPruning(parameters=0.8, scope="local", multiple_of=multiple_of).report(model)
        return widths(report)["attention (heads)"]

    assert heads(1)[1] < 4 and heads(8) == (4, 4)


def test_the_report_is_a_table(capsys):
    prune = ChannelPruning(operations=0.6, score="random", seed=3)
    small = prune.apply(randomized(perceptron()))
    printed = capsys.readouterr().out
    assert f"body    16 -> {small.get_layer('body').units}" in printed and "an output of the model" in printed
    assert "operations: 208 ->" in printed
    again = prune.strip(small)
    assert again is not small and all(
        np.array_equal(*pair) for pair in zip(again.get_weights(), small.get_weights(), strict=True)
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "takes one target. Received: none"),
        ({"operations": 0.5, "parameters": 0.5}, "takes one target"),
        ({"operations": 1.5}, "Invalid 'operations'"),
        ({"operations": 0}, "above 0"),
        ({"operations": float("nan")}, "Invalid 'operations'"),
        ({"operations": 0.5, "score": "size"}, "Invalid 'score'"),
        ({"operations": 0.5, "scope": "all"}, "Invalid 'scope'"),
        ({"operations": 0.5, "multiple_of": 0}, "Invalid 'multiple_of'"),
        ({"operations": 0.5, "skip": 3}, "Invalid 'skip'"),
        ({"operations": 0.5, "score": "taylor"}, "Invalid 'data'"),
        ({"operations": 0.5, "data": ([], [])}, "Invalid 'data'"),
        ({"latency": 0.5}, "litert_latency"),
        ({"operations": 0.5, "measure": len}, "Invalid 'measure'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ChannelPruning(**settings)


def test_wrong_models():
    model = randomized(perceptron())
    with pytest.raises(ConfigurationError, match="Did you mean 'body'"):
        ChannelPruning(operations=0.5, skip=["bodi"]).apply(model)
    with pytest.raises(ConfigurationError, match="compressed already"):
        ChannelPruning(operations=0.5).apply(Pruning(0.5).apply(model, verbose=False))
    with pytest.raises(ConfigurationError, match="needs a loss"):
        ChannelPruning(operations=0.5, score="taylor", data=(np.zeros((4, 8)), np.zeros(4))).apply(model)
    with pytest.raises(ConfigurationError, match="(?s)at least 0.0625.*an output of the model"):
        ChannelPruning(operations=0.05).apply(model)
    open_size = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1), layers.Conv2D(2, 1)])
    with pytest.raises(ConfigurationError, match="variable input size"):
        ChannelPruning(operations=0.5).apply(open_size)
    assert ChannelPruning(parameters=0.7).apply(open_size, verbose=False).layers[0].filters < 4
    model.get_layer("body").kernel.assign(np.full((8, 16), np.nan))
    with pytest.raises(ConfigurationError, match="not finite"):
        compression.ChannelPruning(operations=0.5).apply(model)
