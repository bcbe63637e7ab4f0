"""Quantization-aware training of whole models: applied, trained, stripped, saved, distilled, combined."""

import keras
import numpy as np
import pytest
from compressible import MODELS
from keras import layers, ops

import keras_kd as kd
from keras_kd.compression import Clustering, Pruning, QuantizationAware, chain, strip
from keras_kd.compression.quantization import ActivationQuantizer, FakeQuantizedWeight
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.errors import ConfigurationError
from keras_kd.surgery import layers_by_path

RNG = np.random.default_rng(0)


def net():
    x = keras.Input((8, 8, 3), name="image")
    h = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(x)
    h = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="norm")(h))
    h = layers.AveragePooling2D(2, name="pool")(h)
    h = h + layers.DepthwiseConv2D(3, padding="same", activation="hard_silu", name="depthwise")(h)
    return keras.Model(x, layers.Dense(4, name="head")(layers.Flatten()(h)), name="net")


def images(n=32):
    return RNG.normal(size=(n, 8, 8, 3)).astype("float32"), RNG.integers(0, 4, n)


def compiled(model, **settings):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False, **settings)
    return model


def quantizers(model):
    return {path: layer for path, layer in layers_by_path(model).items() if isinstance(layer, ActivationQuantizer)}


def ranges(model):
    return {path: (float(q.minimum), float(q.maximum), int(q.count)) for path, q in quantizers(model).items()}


def predicted(model, x):
    return model.predict(x, verbose=0)


@pytest.mark.parametrize("algorithm", ["moving_average", "lsq"])
def test_a_whole_life(algorithm, tmp_path):
    """Apply, fit in two parts with a save between, strip; against a training without a break."""
    x, y = images()
    model = net()
    before = [np.array(weight) for weight in model.get_weights()]
    aware = QuantizationAware(algorithm=algorithm, freeze=6)
    fed = dict(batch_size=8, verbose=0, shuffle=False)

    keras.utils.set_random_seed(0)
    whole = compiled(aware.apply(model, verbose=False))
    whole.fit(x, y, epochs=2, **fed)
    keras.utils.set_random_seed(0)
    first = compiled(aware.apply(model, verbose=False))
    first.fit(x, y, epochs=1, **fed)
    first.save(tmp_path / "half.keras")
    second = keras.models.load_model(tmp_path / "half.keras")
    second.fit(x, y, epochs=1, **fed)
    for one, other in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert ranges(whole).keys() == ranges(second).keys()

    outputs = predicted(whole, x)
    assert len(np.unique(outputs)) <= 256 and len(np.unique(outputs)) > 20
    plain = aware.strip(whole)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    assert not quantizers(plain) and not reparametrized_layers(plain)
    difference = np.abs(predicted(plain, x) - outputs)  # large only where a value is outside of its range
    assert 0 < np.quantile(difference, 0.95) < 0.1 * np.abs(outputs).max()
    for path, layer in reparametrized_layers(whole).items():
        for name, function in layer.reparametrizations.items():
            kernel = np.asarray(ops.convert_to_numpy(plain.get_layer(path).kernel))
            integers = kernel / _spread(function.range(kernel_of(layer, name)), kernel.shape)
            np.testing.assert_allclose(integers, np.round(integers), atol=1e-3)
            assert np.abs(integers).max() <= 127.001
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)  # the user's model was not changed


def kernel_of(layer, name):
    return ops.convert_to_tensor(getattr(layer.layer, name))


def _spread(found, shape):
    return np.reshape(found.scale, [size if axis in found.axes else 1 for axis, size in enumerate(shape)])


def test_ranges_and_statistics_stay_from_a_step_on():
    x, y = images()
    model = compiled(QuantizationAware(freeze=2).apply(net(), verbose=False))
    norm = model.get_layer("norm").layer
    seen = []
    for _ in range(4):
        model.train_on_batch(x * (1 + len(seen)), y)
        moved = np.append(norm.moving_mean, [value for low, high, _ in ranges(model).values() for value in (low, high)])
        seen.append((moved, np.array(norm.gamma)))
    assert not np.allclose(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[1][0], seen[2][0])
    np.testing.assert_array_equal(seen[1][0], seen[3][0])
    assert not np.allclose(seen[2][1], seen[3][1])  # gamma and beta are still trained


def test_learned_ranges_stay_from_a_step_on():
    """Also under momentum and weight decay, after a save, and in the result; the steps of weights are trained on."""
    x, y = images()
    model = QuantizationAware(algorithm="lsq", freeze=2).apply(net(), verbose=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.05, weight_decay=0.1), loss, jit_compile=False)
    seen = []
    for _ in range(5):
        model.train_on_batch(x, y)
        learned = {path: one for path, one in quantizers(model).items() if hasattr(one, "stretch")}
        ends = {path: (float(one.range().minimum), float(one.range().maximum)) for path, one in learned.items()}
        seen.append((ends, float(model.get_layer("head").reparametrizations["kernel"].step_size[0])))
    assert "relu_quantizer" in seen[0][0] and seen[0][0] != seen[1][0]
    assert seen[1][0] == seen[2][0] == seen[4][0]
    assert seen[1][1] != seen[4][1]
    assert float(learned["relu_quantizer"].stretch) != float(learned["relu_quantizer"].frozen_stretch)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(predicted(copy, x), predicted(model, x))


def test_frozen_statistics_are_those_of_inference():
    x, _ = images()
    model = QuantizationAware(freeze=1).apply(net(), verbose=False)
    first = model(x, training=True)
    np.testing.assert_array_equal(model(x, training=True), model(x))
    assert not np.allclose(first, model(x))


def test_the_report_names_every_output():
    rows = {row.path: row for row in QuantizationAware(skip=["depthwise"]).report(net()).rows}
    assert rows["conv"].weights == ("kernel",) and rows["conv"].output == "fused with 'norm'"
    assert rows["relu"].output == rows["pool"].output == rows["head"].output == rows["image"].output == "rounded"
    assert rows["depthwise"].output == "listed in skip" and rows["depthwise"].weights == ()
    printed = str(QuantizationAware().report(net()))
    assert "output" in printed.splitlines()[0] and "passes its input through unchanged" in printed
    assert "output" not in str(Pruning(0.5).report(net())).splitlines()[0]


def test_skipped_layers_stay_float():
    model = QuantizationAware(skip=["head", "relu"]).apply(net(), verbose=False)
    assert "head" not in reparametrized_layers(model)
    assert {"relu_quantizer", "head_quantizer"}.isdisjoint(quantizers(model))


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_and_clusters_are_kept(bits):
    x, y = images()
    sparse = net()
    sparse.get_layer("conv").kernel.assign(
        np.where(RNG.random((3, 3, 3, 6)) < 0.7, 0.0, 1.0) * RNG.normal(size=(3, 3, 3, 6))
    )
    sparse.get_layer("head").kernel.assign(RNG.choice(RNG.normal(size=5), size=(96, 4)))
    zeros = np.asarray(sparse.get_layer("conv").kernel) == 0
    aware = QuantizationAware(bits=bits)
    model = compiled(aware.apply(sparse, verbose=False))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    plain = aware.strip(model)
    assert (np.asarray(plain.get_layer("conv").kernel)[zeros] == 0).all()
    assert len(np.unique(plain.get_layer("head").kernel)) <= 5
    both = chain(Pruning(0.5, frequency=1), Clustering(4), aware)
    model = compiled(both.apply(net(), verbose=False))
    model.fit(x, y, batch_size=16, verbose=0)
    assert quantizers(model)
    kernel = np.asarray(strip(model).get_layer("conv").kernel)
    assert (kernel == 0).mean() >= 0.5 and len(np.unique(kernel)) <= 5


def test_frozen_kernels_are_rounded_too():
    model = net()
    model.get_layer("conv").trainable = False
    model = QuantizationAware().apply(model, verbose=False)
    assert isinstance(model.get_layer("conv").reparametrizations["kernel"], FakeQuantizedWeight)
    assert model.get_layer("conv").layer.trainable is False


@pytest.mark.parametrize("name", ["sequence", "nested", "sequential"])
def test_other_models_live_as_well(name, data, tmp_path):
    model = MODELS[name]()
    x, y = data(model, 16)
    aware = QuantizationAware()
    model = compiled(aware.apply(model, verbose=False))
    model.fit(x, y, batch_size=8, verbose=0)
    assert all(quantizer.is_ready() for quantizer in quantizers(model).values())
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(predicted(keras.models.load_model(tmp_path / "model.keras"), x), predicted(model, x))
    assert type(aware.strip(model)) is type(MODELS[name]())


def test_under_a_distiller():
    x, y = images()
    model = QuantizationAware(algorithm="lsq").apply(net(), verbose=False)
    distiller = kd.Distiller(net(), model, alpha=0.5)
    compiled(distiller).fit(x, y, batch_size=8, verbose=0)
    assert {int(quantizer.count) for quantizer in quantizers(model).values()} == {4}
    stretched = [float(quantizer.stretch) for quantizer in quantizers(model).values() if hasattr(quantizer, "stretch")]
    assert any(value != 1.0 for value in stretched)


def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = net()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, y = images()
    model = compiled(QuantizationAware().apply(model, verbose=False))
    model.fit(x, y, batch_size=8, verbose=0)
    assert np.isfinite(predicted(model, x)).all() and quantizers(model)["relu_quantizer"].is_ready()
    assert keras.backend.standardize_dtype(quantizers(model)["relu_quantizer"].minimum.dtype) == "float32"


@pytest.mark.parametrize("settings, message", [
    ({"bits": 7}, "bits"),
    ({"activation_bits": 4}, "activation_bits"),
    ({"algorithm": "max"}, "algorithm"),
    ({"momentum": 1.5}, "momentum"),
    ({"warmup": -1}, "warmup"),
    ({"warmup": 5, "freeze": 3}, "freeze"),
    ({"skip": 3}, "skip"),
])  # fmt: skip
def test_a_wrong_setting(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        QuantizationAware(**settings)


def test_a_model_that_does_not_fit():
    with pytest.raises(ConfigurationError, match="conv_9"):
        QuantizationAware(skip=["conv_9"]).apply(net(), verbose=False)
    with pytest.raises(ConfigurationError, match="compressed already"):
        QuantizationAware().apply(QuantizationAware().apply(net(), verbose=False))
