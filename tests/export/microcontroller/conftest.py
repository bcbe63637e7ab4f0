"""Small networks as LiteRT files."""

import keras
import numpy as np
import pytest

import keras_kd as kd

layers = keras.layers


def residual():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Add()([x, layers.Conv2D(8, 1)(layers.DepthwiseConv2D(3, padding="same")(x))])
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(x))
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


NETS = {
    "student": lambda: kd.models.digits_student((8, 8, 1), 10),
    "residual": residual,
    "transposed": lambda: keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2DTranspose(5, 3, strides=2, padding="same"), layers.Conv2D(2, 1)]
    ),
    "norm": lambda: keras.Sequential(
        [keras.Input((6, 4)), layers.LayerNormalization(), layers.Flatten(), layers.Dense(7, activation="softmax")]
    ),
}


@pytest.fixture(scope="session")
def net(export_bytes):
    """The content of a network in a format: `net("student", "int8")`."""
    known = {}

    def get(name, format):
        if (name, format) not in known:
            keras.utils.set_random_seed(0)
            model = NETS[name]()
            samples = np.random.default_rng(0).normal(size=(20, *model.input_shape[1:])).astype("float32")
            known[name, format] = export_bytes(model, format=format, calibration=samples)
        return known[name, format]

    return get
