"""Channel pruning of the networks of `keras.applications`, and of this package's own models."""

import keras
import numpy as np
import pytest
from prunable import randomized

from keras_kd import models
from keras_kd.compression import ChannelPruning, operations

APPLICATIONS = ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121"]
OWN = ["resnet8", "mobilenetv2", "wrn_16_2", "shufflenetv1", "shufflenetv2", "vgg8"]


def _vector(layer):
    """The weight by which the channels of a layer are recognized: no two have the same value."""
    return getattr(layer, "gamma", None) if hasattr(layer, "gamma") else getattr(layer, "bias", None)


def masked_outputs(model, small, x):
    """The outputs of a flat model, with the channels that the smaller one lacks at zero after each layer."""

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        vector = _vector(layer)
        if vector is None:
            return outputs
        mask = np.isin(vector.numpy(), _vector(small.get_layer(layer.name)).numpy())
        assert mask.sum() == _vector(small.get_layer(layer.name)).shape[0]
        return outputs * mask.astype("float32")

    return keras.models.clone_model(model, call_function=call, clone_function=lambda layer: layer)(x)


def check(model, **settings):
    """Halves the operations, compares with the masked model, and returns the report."""
    x = np.random.default_rng(3).uniform(0, 1, (2, *model.input_shape[1:])).astype("float32")
    prune = ChannelPruning(operations=0.5, **settings)
    report, small = prune.report(model), prune.apply(model, verbose=False)
    expected, made = masked_outputs(model, small, x).numpy(), small(x).numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert operations(small) == report.after and 0.45 < report.after / report.before <= 0.5
    return report


@pytest.mark.long
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )
    report = check(randomized(model, kernels=False))  # which would grow from layer to layer
    whole = {row.reason for row in report.rows if row.reason}
    unknown = {"enters 'normalization', a Normalization, which cannot be followed"}  # of the inputs of EfficientNet
    assert whole - unknown == {"an output of the model"}
    aligned = check(model, multiple_of=8, scope="local")
    assert all(row.after % 8 == 0 or row.after == row.before for row in aligned.rows)


@pytest.mark.parametrize("name", ["resnet8", "vgg8"])
def test_own_models(name):
    report = check(randomized(getattr(models, name)((16, 16, 3), 4), kernels=False))
    assert {row.reason for row in report.rows if row.reason} == {"an output of the model"}


@pytest.mark.parametrize("name", OWN)
def test_the_channels_of_own_models_are_followed_or_reported(name):
    report = ChannelPruning(operations=0.6).report(getattr(models, name)((16, 16, 3), 4))
    shuffled = {"its channels depend on each other"} if name.startswith("shufflenet") else set()
    assert {row.reason for row in report.rows if row.reason} == {"an output of the model"} | shuffled


def test_a_shuffled_model_shrinks_as_a_whole():
    """The channels of a shuffle are coupled across its groups."""
    check(randomized(models.shufflenetv2((16, 16, 3), 4)))


@pytest.mark.long
@pytest.mark.parametrize(("name", "millions"), [("MobileNet", 568.7), ("MobileNetV2", 300.8), ("ResNet50", 3857.9)])
def test_operations_are_those_published(name, millions):
    """A. Howard et al., 2017; M. Sandler et al., 2018; K. He et al., 2016 (3.8 billion)."""
    assert operations(getattr(keras.applications, name)(weights=None)) / 1e6 == pytest.approx(millions, rel=2e-3)
