"""The plain CNNs of Mirzadeh et al. (2020): parameters counted by hand, the order of their layers, any image."""

import math

import keras
import numpy as np
import pytest

from keras_kd import models

# For 32x32x3 and 10 classes: a 3x3 convolution from a to b channels has 9 a b + b parameters, its batch normalization
# 2 b more (gamma and beta), and a Dense layer from a to b units a b + b.
STEM_16, SAME_16 = 448 + 32, 2_320 + 32
TO_32, SAME_32 = 4_640 + 64, 9_248 + 64
TO_64, SAME_64 = 18_496 + 128, 36_928 + 128
TO_128, SAME_128 = 73_856 + 256, 147_584 + 256
TO_256, SAME_256 = 295_168 + 512, 590_080 + 512
UP_TO_32 = STEM_16 + SAME_16 + TO_32 + SAME_32
UP_TO_64 = UP_TO_32 + TO_64 + SAME_64
PARAMETERS = {
    "plain_cnn_2": STEM_16 + SAME_16 + 8 * 8 * 16 * 10 + 10,
    "plain_cnn_4": UP_TO_32 + 8 * 8 * 32 * 10 + 10,
    "plain_cnn_6": UP_TO_64 + 4 * 4 * 64 * 10 + 10,
    "plain_cnn_8": UP_TO_64 + TO_128 + SAME_128 + (2 * 2 * 128 * 64 + 64) + 650,
    "plain_cnn_10": 896 + 64 + SAME_32 + TO_64 + SAME_64 + TO_128 + SAME_128 + TO_256 + 3 * SAME_256
    + (2 * 2 * 256 * 128 + 128) + 1_290,
}  # fmt: skip
STATED = {  # in the docstrings
    "plain_cnn_2": 13_082,
    "plain_cnn_4": 37_338,
    "plain_cnn_6": 82_778,
    "plain_cnn_8": 327_962,
    "plain_cnn_10": 2_487_850,
}
# C: convolution, batch normalization, ReLU; P: pooling; F: Dense layer, ReLU.
ORDER = {
    "plain_cnn_2": "CP CP",
    "plain_cnn_4": "CCP CCP",
    "plain_cnn_6": "CCP CCP CCP",
    "plain_cnn_8": "CCP CCP CCP CCP F",
    "plain_cnn_10": "CCP CCP CCP CCCCP F",
}
# the last ReLU of each group: (size, channels)
GROUPS = {
    "plain_cnn_2": [(32, 16), (16, 16)],
    "plain_cnn_4": [(32, 16), (16, 32)],
    "plain_cnn_6": [(32, 16), (16, 32), (8, 64)],
    "plain_cnn_8": [(32, 16), (16, 32), (8, 64), (4, 128)],
    "plain_cnn_10": [(32, 32), (16, 64), (8, 128), (4, 256)],
}


@pytest.fixture(params=sorted(PARAMETERS))
def model(request):
    return models.build(request.param, input_shape=(32, 32, 3), num_classes=10)


def count(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_parameters(model):
    assert count(model) == PARAMETERS[model.name] == STATED[model.name]


def test_layers_come_in_the_published_order(model):
    kinds = [type(layer).__name__ for layer in model.layers]
    spelled = {
        "C": ["Conv2D", "BatchNormalization", "ReLU"],
        "P": ["MaxPooling2D"],
        "F": ["Dense", "ReLU"],
    }
    convolutions = ORDER[model.name].removesuffix(" F")
    expected = [
        "InputLayer",
        *(kind for letter in convolutions.replace(" ", "") for kind in spelled[letter]),
        "Flatten",
    ]
    expected += spelled["F"] if "F" in ORDER[model.name] else []
    assert kinds == [*expected, "Dense"]
    assert model.name == f"plain_cnn_{convolutions.count('C')}"
    assert model.layers[-1].activation is keras.activations.linear


def test_groups_are_named_as_in_the_other_models(model):
    for index, (size, channels) in enumerate(GROUPS[model.name]):
        name = f"stage_{index}" if index else "stem"
        after, before = model.get_layer(name).output, model.get_layer(f"{name}_preact").output
        assert after.shape == before.shape == (None, size, size, channels)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    before, after = keras.Model(model.input, [model.get_layer(f"stem{suffix}").output for suffix in ("_preact", "")])(x)
    np.testing.assert_array_equal(after, np.maximum(before, 0))
    own = {"image", "stem", "flatten", "hidden", "hidden_dense", "logits"}
    assert all(layer.name in own or layer.name.startswith(("stem_", "stage_")) for layer in model.layers)


def test_kernels_start_as_pytorch_s_do(model):
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            limit = 1 / math.sqrt(math.prod(kernel.shape[:-1]))
            assert np.abs(kernel).max() <= limit
            assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=4 / math.sqrt(kernel.size))


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [  # counted by hand, for 100 classes
        ("plain_cnn_2", {"width": 2}, 896 + 64 + SAME_32 + 8 * 8 * 32 * 100 + 100),
        ("plain_cnn_8", {"width": 2}, 896 + 64 + SAME_32 + TO_64 + SAME_64 + TO_128 + SAME_128 + TO_256 + SAME_256
         + (2 * 2 * 256 * 64 + 64) + 6_500),
        ("plain_cnn_10", {"hidden": 512}, PARAMETERS["plain_cnn_10"] - (1024 * 128 + 128) - 1_290
         + (1024 * 512 + 512) + 51_300),
    ],
)  # fmt: skip
def test_the_published_ones_of_cifar_100(name, settings, parameters):
    model = models.build(name, input_shape=(32, 32, 3), num_classes=100, **settings)
    assert count(model) == parameters and model.output_shape == (None, 100)


@pytest.mark.parametrize("shape", [(8, 8, 1), (1, 1, 1), (15, 9, 2)], ids=str)
def test_any_small_image(model, shape, tmp_path):
    other = models.build(model.name, input_shape=shape, num_classes=7)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    logits = keras.ops.convert_to_numpy(other(x))
    assert logits.shape == (3, 7) and np.isfinite(logits).all()
    if shape == (8, 8, 1):
        other.save(tmp_path / "model.keras")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), logits)
