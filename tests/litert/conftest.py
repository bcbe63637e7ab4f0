"""Small files, each converted once for all tests."""

import keras
import numpy as np
import pytest

import keras_kd as kd

layers = keras.layers


@pytest.fixture(scope="session")
def export_bytes(tmp_path_factory):
    """A function of a model and `export_tflite`'s options that returns the content of the exported file."""

    def export(model, **options):
        path = tmp_path_factory.mktemp("litert") / "net.tflite"
        kd.export.export_tflite(model, path, isolate=False, **options)
        return path.read_bytes()

    return export


@pytest.fixture(scope="session")
def pair():
    """A model with two inputs, image features and token ids, and two outputs."""
    keras.utils.set_random_seed(0)
    features, ids = keras.Input((4,), name="features"), keras.Input((3,), dtype="int32", name="ids")
    both = layers.Concatenate()([layers.Dense(5)(features), layers.Flatten()(layers.Embedding(50, 2)(ids))])
    outputs = {"scores": layers.Dense(3)(both), "chance": layers.Dense(1, activation="sigmoid")(both)}
    return keras.Model([features, ids], outputs)


@pytest.fixture(scope="session")
def pair_inputs():
    generator = np.random.default_rng(0)
    return {
        "features": generator.normal(size=(7, 4)).astype("float32"),
        "ids": generator.integers(0, 50, (7, 3)),
    }


@pytest.fixture(scope="session")
def pair_file(pair, pair_inputs, export_bytes):
    return export_bytes(pair, samples=pair_inputs)
