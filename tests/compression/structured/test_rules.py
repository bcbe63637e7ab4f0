"""Settings of single layers and operations that decide whether their channels can leave."""

import keras
import pytest
from keras import layers
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
