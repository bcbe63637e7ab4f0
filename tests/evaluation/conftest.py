"""A small convolutional network with BatchNormalization, its images, and its TFLite files."""

import keras
import numpy as np
import pytest


@pytest.fixture(scope="session")
def net():
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(image))
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(image, keras.layers.Dense(5, name="logits")(x), name="net")
    model.layers[2].set_weights([np.array(row, "float32") for row in np.random.default_rng(0).random((4, 6))])
    return model


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(5).random((37, 8, 8, 1), dtype="float32")


@pytest.fixture(scope="session")
def export(tmp_path_factory, images):
    """A function of a model and `export_tflite`'s options that writes a TFLite file and returns its path."""
    from keras_kd.export import export_tflite

    def write(model, **options):
        path = tmp_path_factory.mktemp("export") / "net.tflite"
        return export_tflite(model, path, isolate=False, **options).path

    return write


@pytest.fixture(scope="session")
def float_file(net, export):
    return export(net)


@pytest.fixture(scope="session")
def int8_file(net, export, images):
    return export(net, format="int8", calibration=images)
