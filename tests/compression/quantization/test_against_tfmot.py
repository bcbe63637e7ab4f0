"""A training with fake quantization against the same training by TFMOT, which runs in a process of its own."""

import importlib.util
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.compression import QuantizationAware
from keras_kd.compression.quantization import ActivationQuantizer
from keras_kd.surgery import layers_by_path

STEPS = 3


def net():
    return keras.Sequential([
        keras.Input((8, 8, 3), name="image"),
        layers.Conv2D(6, 3, use_bias=False, name="conv"), layers.BatchNormalization(name="norm"),
        layers.ReLU(6.0, name="relu"), layers.Conv2D(4, 1, activation="relu", name="conv_2"),
        layers.Flatten(name="flatten"), layers.Dense(4, name="head"),
    ])  # fmt: skip


def start_as_tfmot(model, x):
    """TFMOT's ranges start at -6 and 6 and move by 0.001 from the first step on; that of the input is of all values."""
    for path, quantizer in layers_by_path(model).items():
        if isinstance(quantizer, ActivationQuantizer):
            is_input = path == "image_quantizer"
            quantizer.minimum.assign(x.min() if is_input else -6.0)
            quantizer.maximum.assign(x.max() if is_input else 6.0)
            quantizer.count.assign(1_000_000)
            quantizer.momentum = 1.0 if is_input else 0.999


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_model_optimization") is None, reason="needs TFMOT")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFMOT runs on TensorFlow")
def test_weights_and_ranges_are_those_of_tfmot(start, tmp_path):
    keras.utils.set_random_seed(0)
    model, rng = net(), np.random.default_rng(0)
    x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.integers(0, 4, 32)
    weights = {f"weight_{number}": value for number, value in enumerate(model.get_weights())}
    np.savez(tmp_path / "start.npz", x=x, y=y, steps=STEPS, **weights)
    script = Path(__file__).parent / "tfmot_training.py"
    command = [sys.executable, script, tmp_path / "start.npz", tmp_path / "result.npz"]
    child = start(*command, env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "tensorflow"})

    model = QuantizationAware(per_unit=False).apply(model, verbose=False)
    start_as_tfmot(model, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False)
    for _ in range(STEPS):
        before = {name: model.get_layer(name).layer.kernel.numpy() for name in ("conv", "conv_2", "head")}
        model.train_on_batch(x, y)

    child = child.wait()
    assert child.returncode == 0, child.stdout[-3000:]
    theirs = np.load(tmp_path / "result.npz")
    for name in ("conv", "conv_2", "head"):
        layer = model.get_layer(name)
        np.testing.assert_allclose(layer.layer.kernel, theirs[f"{name}/kernel"], atol=2e-5, err_msg=name)
        found = layer.reparametrizations["kernel"].range(before[name])  # TFMOT's are those of the last forward pass
        np.testing.assert_allclose(found.minimum, theirs[f"{name}/kernel_min"], atol=2e-5)
        np.testing.assert_allclose(found.maximum, theirs[f"{name}/kernel_max"], atol=2e-5)
    np.testing.assert_allclose(model.get_layer("norm").moving_mean, theirs["norm/moving_mean"], atol=1e-5)
    np.testing.assert_allclose(
        model.get_layer("norm").moving_variance, theirs["norm/moving_variance"], atol=5e-5
    )  # n - 1
    for ours, other in (
        ("relu", "relu/output"),
        ("conv_2", "conv_2/post_activation"),
        ("head", "head/post_activation"),
    ):
        found = model.get_layer(f"{ours}_quantizer").range()
        np.testing.assert_allclose(found.minimum, theirs[f"{other}_min"], atol=1e-5, err_msg=ours)
        np.testing.assert_allclose(found.maximum, theirs[f"{other}_max"], atol=1e-5, err_msg=ours)
    for name in ("conv", "conv_2", "head"):  # their outputs are those of the weights before the last step
        assert np.abs(before[name] - model.get_layer(name).layer.kernel).max() > 1e-4
    np.testing.assert_allclose(model.predict(x, verbose=0), theirs["outputs"], atol=0.1)
