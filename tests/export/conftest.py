"""A small convolutional network with BatchNormalization after a short training on the digits, and its images."""

import keras
import numpy as np
import pytest


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] / 16).astype("float32"), data.target


@pytest.fixture(scope="session")
def conv_net(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(12, 3, padding="same", use_bias=False)(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(digits[0][:1000], digits[1][:1000], epochs=5, verbose=0)
    return model


@pytest.fixture(scope="session")
def lite_model():
    """A function that opens a TFLite file by its path."""
    from ai_edge_litert.interpreter import Interpreter

    def open_file(path):
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    return open_file


@pytest.fixture
def generator():
    return np.random.default_rng(7)
