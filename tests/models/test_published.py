"""The CIFAR models against the tables of Tian et al. (2020): sizes, tapped maps, operations, first kernels."""

import math
import re

import keras
import numpy as np
import pytest

from keras_kd import models

# As counted by PyTorch in RepDistiller for 100 classes: convolutions, gamma and beta of batch normalization, Dense.
PARAMETERS = {
    "mobilenetv2": 812_836,
    "resnet20": 278_324,
    "resnet32x4": 7_433_860,
    "resnet56": 861_620,
    "resnet8": 83_892,
    "resnet8x4": 1_233_540,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
    "vgg13": 9_462_180,
    "vgg8": 3_965_028,
    "wrn_16_2": 703_284,
    "wrn_40_2": 2_255_156,
}
# (size, channels) of features 0, 1, ... in the source, and the length of the pooled vector
NARROW = [(32, 16), (32, 16), (16, 32), (8, 64)], 64
WIDE = [(32, 32), (32, 64), (16, 128), (8, 256)], 256
WRN = [(32, 16), (32, 32), (16, 64), (8, 128)], 128
VGG = [(32, 64), (16, 128), (8, 256), (4, 512), (4, 512)], 512
FEATURES = {
    "mobilenetv2": ([(16, 16), (16, 12), (8, 16), (4, 48), (2, 160)], 1280),
    "resnet20": NARROW,
    "resnet32x4": WIDE,
    "resnet56": NARROW,
    "resnet8": NARROW,
    "resnet8x4": WIDE,
    "shufflenetv1": ([(32, 24), (16, 240), (8, 480), (4, 960)], 960),
    "shufflenetv2": ([(32, 24), (16, 116), (8, 232), (4, 464)], 1024),
    "vgg13": VGG,
    "vgg8": VGG,
    "wrn_16_2": WRN,
    "wrn_40_2": WRN,
}
# The first two are from D-X-Y/AutoDL-Projects, docs/BASELINE.md (10 classes, 0.006 M fewer). The others by hand: a stem
# of 0.885 M, three stages of 58.720 M with one block, 75.497 M per further block, and a Dense layer of 0.026 M.
MULTIPLY_ACCUMULATES = {"resnet20": 40.81e6, "resnet56": 125.75e6, "resnet8x4": 177.071e6, "resnet32x4": 1083.041e6}
TAPPED = r"stem|stage_\d|stage_\d_(preact|relu)|pool|logits"


@pytest.fixture(scope="module", params=sorted(PARAMETERS))
def model(request):
    keras.utils.set_random_seed(0)
    return models.build(request.param, input_shape=(32, 32, 3), num_classes=100)


@pytest.fixture(scope="module")
def maps(model):
    """The outputs of the tapped layers, `pool` and `logits` for two noise images, by name."""
    names = [layer.name for layer in model.layers if re.fullmatch(TAPPED, layer.name)]
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])(x)
    return {name: keras.ops.convert_to_numpy(y) for name, y in zip(names, outputs, strict=True)}


def multiply_accumulates(model):
    """Multiply-accumulates for one image: each kernel weight once per output pixel."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            pixels = math.prod(layer.output.shape[1:-1])
            total += pixels * math.prod(layer.weights[0].shape)
    return total


def shuffled(x, groups):
    """PyTorch's view, transpose, view in channels-last layout."""
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)


def test_parameters(model):
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == PARAMETERS[model.name]


def test_stages_pool_and_logits_have_the_published_shapes(model, maps):
    features, length = FEATURES[model.name]
    stages = [f"stage_{number}" for number in range(1, len(features))]
    assert [name for name in maps if re.fullmatch(r"stage_\d", name)] == stages
    shapes = [(2, size, size, channels) for size, channels in features]
    assert [maps[name].shape for name in ("stem", *stages)] == shapes
    assert maps["pool"].shape == (2, length) and maps["logits"].shape == (2, 100)
    assert all(np.isfinite(y).all() and y.std() > 0 for y in maps.values())


def test_a_stage_is_the_relu_of_its_map_before(model, maps):
    for number in range(1, len(FEATURES[model.name][0])):
        if model.name == "mobilenetv2":
            assert f"stage_{number}_preact" not in maps and maps[f"stage_{number}"].min() < 0
            continue
        before = maps[f"stage_{number}_preact"]
        after = maps[f"stage_{number}_relu" if model.name.startswith("wrn") else f"stage_{number}"]
        expected = np.maximum(before, 0)
        if model.name == "shufflenetv2":
            expected = shuffled(expected, groups=2)
            passed, before = np.split(before, 2, axis=-1)
            assert passed.min() >= 0, "else a ReLU over both halves would not be that of the source"
        assert before.min() < 0
        np.testing.assert_array_equal(after, expected)


def test_inner_layers_are_named_by_stage_and_block(model):
    own = {"image", "stem", "pool", "logits", "head"}
    for layer in model.layers:
        assert layer.name in own or layer.name.startswith(("stem_", "stage_", "head_")), layer.name


def test_batch_normalization_is_that_of_pytorch(model):
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms and {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}


def test_first_kernels_are_those_of_the_source(model):
    """Normal with variance 2 / (k k filters), depthwise too; ShuffleNets uniform within 1 / sqrt(inputs)."""
    for layer in model.layers:
        if not isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            continue
        kernel = keras.ops.convert_to_numpy(layer.weights[0])
        height, width, inputs, _ = kernel.shape
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            inputs = 1
        if model.name.startswith("shuffle"):
            expected = 1 / math.sqrt(3 * height * width * inputs)
            assert np.abs(kernel).max() <= math.sqrt(3) * expected
        else:
            expected = math.sqrt(2 / (height * width * layer.output.shape[-1]))
        assert kernel.std() == pytest.approx(expected, rel=4 / math.sqrt(kernel.size))


def test_multiply_accumulates(model):
    if model.name in MULTIPLY_ACCUMULATES:
        assert multiply_accumulates(model) == pytest.approx(MULTIPLY_ACCUMULATES[model.name], rel=1e-3)
    if model.name == "resnet32x4":
        student = models.build("resnet8x4", input_shape=(32, 32, 3), num_classes=100)
        assert multiply_accumulates(model) >= 6 * multiply_accumulates(student)


def test_models_are_made_of_keras_own_layers(model):
    """A saved model loads without this package."""
    modules = {layer["module"] for layer in model.get_config()["layers"]}
    assert modules <= {"keras.layers", "keras.src.ops.numpy"}
