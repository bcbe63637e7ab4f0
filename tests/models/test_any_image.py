"""Images of sizes other than a model's own, and saving, for one model of each family."""

import keras
import numpy as np
import pytest

from keras_kd import models

DIGITS = ["digits_student", "digits_teacher"]
CIFAR = ["mobilenetv2", "resnet8x4", "shufflenetv1", "shufflenetv2", "vgg8", "wrn_16_2"]
SHAPES = [(8, 8, 1), (32, 32, 3), (1, 1, 1), (15, 9, 2)]


def forward(model, shape):
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    return keras.ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", DIGITS)
def test_the_digits_pair_gives_logits_for_any_small_image(name, shape):
    model = models.build(name, input_shape=shape, num_classes=7)
    logits = forward(model, shape)
    assert logits.shape == (3, 7) and np.isfinite(logits).all()


@pytest.mark.parametrize("name", [*DIGITS, *CIFAR])
def test_every_family_gives_logits_for_a_grey_image_and_can_be_saved(name, tmp_path):
    """28 pixels become odd after two halvings."""
    model = models.build(name, input_shape=(28, 28, 1), num_classes=7)
    head = model.layers[-1]
    assert isinstance(head, keras.layers.Dense) and head.activation is keras.activations.linear
    logits = forward(model, (28, 28, 1))
    assert logits.shape == (3, 7) and np.isfinite(logits).all()

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(logits, forward(loaded, (28, 28, 1)))


@pytest.mark.parametrize("name", CIFAR)
def test_every_family_takes_a_single_pixel(name):
    assert models.build(name, input_shape=(1, 1, 1), num_classes=7).output_shape == (None, 7)
