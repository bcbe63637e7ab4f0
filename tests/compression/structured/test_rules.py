"""Settings of single layers and operations that decide whether their channels can leave."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from prunable import assert_equals_masked, randomized

from keras_kd.compression import ChannelPruning


@pytest.fixture(params=[6, None], ids=["fixed_length", "any_length"])
def tokens(request):
    return keras.Input((request.param,), dtype="int32")


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(6, name="recurrent"),
        lambda: layers.GRU(12, name="recurrent"),
        lambda: layers.SimpleRNN(12, name="recurrent"),
        lambda: layers.Bidirectional(layers.GRU(12, name="recurrent"), merge_mode="sum"),
        lambda: layers.Bidirectional(layers.LSTM(12, name="recurrent")),
    ],
)
def test_a_recurrent_layer_behind_a_mask(tokens, layer):
    """The mask, [batch, steps], is an input of the layer, but not one of its states, [batch, units]."""
    embedded = layers.Embedding(30, 8, mask_zero=True, name="embedding")(tokens)
    model = randomized(keras.Model(tokens, layers.Dense(2, name="head")(layer()(embedded))))
    report = ChannelPruning(parameters=1.0).report(model)
    assert [row.layers[0] for row in report.rows if row.reason] == ["head"]
    assert_equals_masked(model, parameters=0.6)


def test_states_of_recurrent_layers_leave_with_their_units():
    x = keras.Input((5, 6))
    first = layers.Dense(8, name="first")(x)
    states = [layers.GlobalAveragePooling1D()(first), layers.GlobalMaxPooling1D()(first)]
    given = layers.LSTM(8, name="given")(x, initial_state=states)
    placed = layers.GRU(8, name="placed")(x, states[0])
    model = randomized(keras.Model(x, layers.Dense(2, name="head")(layers.Concatenate()([given, placed]))))
    small = assert_equals_masked(model, parameters=0.6)
    widths = small.get_layer("first").units, small.get_layer("given").units, small.get_layer("placed").units
    assert len(set(widths)) == 1


def around(layer, shape=(5, 6)):
    """A model of a layer between two others, of which the first computes eight channels."""
    x = keras.Input(shape)
    h = layers.Dense(9, name="after")(layer(layers.Dense(8, name="before")(x)))
    return randomized(keras.Model(x, layers.Dense(2, name="head")(layers.Flatten()(h))))


def reason(model, layer="before"):
    """Why all channels of a layer stay; empty if some can leave."""
    rows = ChannelPruning(parameters=1.0).report(model).rows
    return next(row.reason for row in rows if layer in row.layers)


@pytest.mark.parametrize("output_shape, equation", [(16, "...x,xy->...y"), ((5, 16), "...bx,xy->...by")])
def test_an_einsum_with_an_ellipsis(output_shape, equation):
    model = around(layers.EinsumDense(equation, output_shape, bias_axes="y", name="einsum"))
    assert reason(model) == reason(model, "einsum") == ""
    small = assert_equals_masked(model, parameters=0.6)
    assert small.get_layer("einsum").kernel.shape[1] < 16


@pytest.mark.parametrize("low, high", [([-0.2] * 4 + [-0.1] * 4, 1.0), (0.0, [0.1] * 4 + [0.3] * 4)])
def test_limits_for_each_channel_keep_them(low, high):
    model = around(lambda x: ops.clip(x, low, high))
    assert "whose limits are arrays" in reason(model)
    assert_equals_masked(model, parameters=0.9)
    assert reason(around(lambda x: ops.clip(x, -1.0, np.float32(1)))) == ""


@pytest.mark.parametrize("kind", [layers.Dropout, layers.AlphaDropout])
def test_a_noise_shape_with_the_number_of_channels_keeps_them(kind):
    kept = around(kind(0.5, noise_shape=(None, 1, 8)))
    assert "noise_shape is (None, 1, 8)" in reason(kept)
    small = assert_equals_masked(kept, parameters=0.9)
    small(np.zeros((2, 5, 6)), training=True)
    for shape in (None, (None, 1, None), (None, 5, 1)):
        free = around(kind(0.5, noise_shape=shape))
        assert reason(free) == ""
    ChannelPruning(parameters=0.6).apply(free, verbose=False)(np.zeros((2, 5, 6)), training=True)


def test_a_split_of_positions_leaves_the_channels_free():
    """As many parts as there are positions, so that each has one."""
    model = around(lambda x: layers.Add()(ops.split(x, 5, axis=1)))
    assert reason(model) == ""
    assert_equals_masked(model, parameters=0.7)


def test_what_an_embedding_looks_up_stays():
    model = around(lambda x: layers.Embedding(30, 4)(ops.cast(ops.abs(x), "int32")), shape=(6,))
    assert "looks its values up" in reason(model)
    assert_equals_masked(model, parameters=0.9)


def test_a_transpose_that_moves_the_batch_keeps_the_channels():
    moved = around(lambda x: ops.transpose(ops.transpose(x, (1, 0, 2)), (1, 0, 2)))
    assert "moves the batch" in reason(moved)
    assert_equals_masked(moved, parameters=0.9)
    assert reason(around(lambda x: ops.transpose(ops.transpose(x, (0, 2, 1)), (0, -1, 1)))) == ""
