"""A layer that is called twice, on channels that leave in one call and have to stay in the other."""

import keras
import pytest
from keras import layers, ops
from prunable import assert_equals_masked, randomized

from keras_kd.compression import ChannelPruning


def built(shape, *outputs):
    """A model of the function of its input that each output is, in their order."""
    x = keras.Input(shape)
    return randomized(keras.Model(x, [layers.Dense(2, name=f"head_{at}")(one(x)) for at, one in enumerate(outputs)]))


def least(model):
    """The widths that are left when all that can leave has left."""
    report = ChannelPruning(parameters=1.0).report(model)
    return {row.layers[0]: 1 if not row.reason else row.before for row in report.rows}


@pytest.fixture(params=["first", "last"])
def ordered(request):
    """The outputs in both orders, as the first call of a layer determines what is recorded."""
    return (lambda *outputs: outputs) if request.param == "first" else (lambda *outputs: outputs[::-1])


def test_a_dense_layer_on_two_axes(ordered):
    shared = layers.Dense(7, name="shared")
    turned = layers.Dense(6, name="turned")
    model = built((6, 6), *ordered(shared, lambda x: ops.mean(shared(layers.Permute((2, 1))(turned(x))), axis=-1)))
    small = assert_equals_masked(model, parameters=0.8)
    assert small.get_layer("shared").units == 7 and small.get_layer("turned").units < 6


def test_a_wrapped_layer_on_two_axes(ordered):
    """TimeDistributed gives up on channels along the steps; the layer inside it is the one that has the kernel."""
    shared = layers.TimeDistributed(layers.Dense(7, name="inside"), name="shared")
    turned = layers.Dense(6, name="turned")
    model = built((6, 6), *ordered(shared, lambda x: shared(layers.Permute((2, 1))(turned(x)))))
    assert least(model)["shared/inside"] == 7


@pytest.mark.parametrize(
    "shape, shared",
    [
        ((6,), lambda: layers.PReLU()),
        ((5, 6), lambda: layers.PReLU(shared_axes=[1])),
        ((6,), lambda: layers.LayerNormalization()),
        ((5, 6), lambda: layers.LayerNormalization(axis=[1, 2])),
        ((5, 6), lambda: layers.RMSNormalization()),
        ((6,), lambda: layers.BatchNormalization()),
        ((8, 6), lambda: layers.GroupNormalization(3)),
        ((6,), lambda: layers.Reshape((2, 3))),
    ],
)
def test_a_layer_that_reads_the_input_as_well(ordered, shape, shared):
    """What the input enters keeps its shape, and so do the channels of the other call."""
    shared, free, before = shared(), layers.Dense(9, name="free"), layers.Dense(6, name="before")
    model = built(shape, *ordered(shared, lambda x: shared(before(x))), free)
    assert least(model)["before"] == 6
    small = assert_equals_masked(model, parameters=0.8)
    assert small.get_layer("free").units < 9


def test_a_normalization_over_positions_and_channels():
    """Its weights have an axis for the positions, which stay, and one for the channels."""
    x = keras.Input((5, 6))
    h = layers.LayerNormalization(axis=[1, 2], name="norm")(layers.Dense(8, name="before")(x))
    model = randomized(keras.Model(x, layers.Dense(2, name="head")(h)))
    small = ChannelPruning(parameters=0.7).apply(model, verbose=False)
    assert small.get_layer("norm").gamma.shape == (5, small.get_layer("before").units) != (5, 8)
