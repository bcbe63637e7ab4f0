"""TFMOT from a Keras 3 script: its pruning is that of `Pruning` step by step, and its stripped models come back."""

import json
import os
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.compression.tfmot.importing import import_tf_keras

from_tf_keras, to_tf_keras = kd.compression.from_tf_keras, kd.compression.to_tf_keras

SCRIPT = """
import json, os, warnings
import keras
import keras_kd as kd
before = dict(os.environ), list(warnings.filters), keras.__version__, sorted(keras.saving.get_custom_objects())
tfmot = kd.compression.import_tfmot()
after = dict(os.environ), list(warnings.filters), keras.__version__, sorted(keras.saving.get_custom_objects())
import tensorflow as tf
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
legacy = tfmot.sparsity.keras.prune_low_magnitude(kd.compression.to_tf_keras(model))
kd.compression.from_tf_keras(tfmot.sparsity.keras.strip_pruning(legacy), like=model)
same = type(tf.keras.Model) is type(keras.Model) and issubclass(tf.keras.Model, keras.Model)
print(json.dumps([before == after, dict(os.environ) == before[0], same, keras.backend.backend(), tf.keras.version()]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_import_leaves_the_process_as_it_was(start, backend):
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    child = start(sys.executable, "-c", SCRIPT, env=environment | {"KERAS_BACKEND": backend})
    finished = child.wait()
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == [True, True, True, backend, keras.__version__]


@pytest.fixture(scope="module")
def tfmot():
    return kd.compression.import_tfmot()


def conv_net():
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(16, 1, name="pointwise"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, name="head"),
        ],
        name="net",
    )


def dense_net():
    """TFMOT takes blocks of matrices only."""
    return keras.Sequential(
        [keras.Input((16,)), layers.Dense(16, activation="relu", name="body"), layers.Dense(8, name="head")], name="net"
    )


class Theirs:
    """A training with TFMOT, one batch at a time."""

    def __init__(self, tfmot, model, schedule, **settings):
        tf_keras = import_tf_keras()
        self.sparsity = tfmot.sparsity.keras
        self.model = self.sparsity.prune_low_magnitude(to_tf_keras(model), pruning_schedule=schedule, **settings)
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(tf_keras.optimizers.SGD(0.01), loss, run_eagerly=True)
        self.callback = self.sparsity.UpdatePruningStep()
        self.callback.set_model(self.model)
        self.callback.on_train_begin()

    def step(self, x, y):
        self.callback.on_train_batch_begin(0)
        self.model.train_on_batch(x, y)
        masks = {}
        for layer in self.model.layers:
            for _, mask, _ in getattr(layer, "pruning_vars", []):
                masks[layer.name.removeprefix("prune_low_magnitude_")] = mask.numpy()
        return masks


class Ours:
    def __init__(self, model, prune):
        self.model = prune.apply(model, verbose=False)
        self.model.compile(
            keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
        )

    def step(self, x, y):
        self.model.train_on_batch(x, y)
        return {
            layer.name: layer.reparametrizations["kernel"].mask.numpy()
            for layer in self.model.layers
            if hasattr(layer, "reparametrizations")
        }


# TFMOT counts the first step as 1, this package as 0.


def polynomial(tfmot):
    theirs = tfmot.sparsity.keras.PolynomialDecay(0.2, 0.85, begin_step=2, end_step=10, frequency=2)
    return theirs, {"sparsity": kd.schedules.Polynomial(0.2, 0.85, steps=8), "begin": 1, "frequency": 2}


def constant(sparsity):
    def make(tfmot):
        theirs = tfmot.sparsity.keras.ConstantSparsity(sparsity, begin_step=1, frequency=3)
        return theirs, {"sparsity": sparsity, "begin": 0, "frequency": 3}

    return make


SCHEDULES = {
    "polynomial": (conv_net, polynomial, {}, "unstructured"),
    "constant": (conv_net, constant(0.6), {}, "unstructured"),
    "blocks": (dense_net, polynomial, {"block_size": (1, 4)}, "1x4"),
    "two of four": (conv_net, constant(0.5), {"sparsity_m_by_n": (2, 4)}, "2:4"),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_pruning_is_that_of_tfmot_at_every_step(tfmot, case):
    """Equal masks at every step, so equal sparsities; then equal weights, which `from_tf_keras` brings back."""
    build, make, settings, pattern = SCHEDULES[case]
    model = build()
    schedule, own = make(tfmot)
    prune = kd.compression.Pruning(pattern=pattern, **own)
    theirs, ours = Theirs(tfmot, model, schedule, **settings), Ours(model, prune)
    rng = np.random.default_rng(0)
    seen = set()
    for step in range(13):
        x, y = rng.normal(size=(16, *model.input_shape[1:])).astype("float32"), rng.integers(0, 8, 16)
        expected, masks = theirs.step(x, y), ours.step(x, y)
        assert masks.keys() == expected.keys()
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask, expected[name], f"{name} at step {step}")
        seen.add(round(float(np.mean(masks["head"] == 0)), 3))
    assert max(seen) >= 0.5 and (make is not polynomial or len(seen) >= 5)
    with pytest.raises(kd.errors.ConfigurationError, match="not been stripped.*PruneLowMagnitude.*strip_pruning"):
        from_tf_keras(theirs.model, like=model)
    stripped = from_tf_keras(theirs.sparsity.strip_pruning(theirs.model), like=model)
    for weight, other in zip(prune.strip(ours.model).weights, stripped.weights, strict=True):
        kept = weight.numpy() != 0  # TFMOT masks a weight before a step, so that pruned ones hold one update
        # for convolutions tf_keras keeps the unbiased variance, n / (n - 1) times that of Keras 3
        rtol = 1e-3 if weight.name == "moving_variance" else 1e-4
        np.testing.assert_allclose(other.numpy()[kept], weight.numpy()[kept], rtol, atol=1e-6, err_msg=weight.path)


def test_clustered_models_come_back(tfmot):
    model = conv_net()
    clustering = tfmot.clustering.keras
    clustered = clustering.cluster_weights(
        to_tf_keras(model),
        number_of_clusters=4,
        cluster_centroids_init=clustering.CentroidInitialization.LINEAR,
    )
    with pytest.raises(kd.errors.ConfigurationError, match="ClusterWeights.*strip_clustering"):
        from_tf_keras(clustered, like=model)
    stripped = clustering.strip_clustering(clustered)
    back = from_tf_keras(stripped, like=model)
    kernels = [layer.kernel.numpy() for layer in back.layers if hasattr(layer, "kernel")]
    assert [len(np.unique(kernel)) for kernel in kernels] == [4, 4, 4]
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(back(x).numpy(), stripped(x).numpy(), rtol=0, atol=1e-6)


def test_a_quantization_aware_model_cannot_come_back(tfmot):
    model = dense_net()
    quantized = tfmot.quantization.keras.quantize_model(to_tf_keras(model))
    with pytest.raises(kd.errors.ConfigurationError, match="QuantizeWrapperV2.*TFMOT cannot strip a quantized model"):
        from_tf_keras(quantized, like=model)
