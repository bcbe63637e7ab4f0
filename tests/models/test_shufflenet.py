import keras
import numpy as np

from keras_kd.models.shufflenet import _shuffle


def test_the_shuffle_deals_out_the_channels_of_each_group_in_turn():
    inputs = keras.Input((2, 3, 6))
    model = keras.Model(inputs, _shuffle(inputs, 3, name="shuffle"))
    x = np.arange(2 * 2 * 3 * 6, dtype=np.float32).reshape(2, 2, 3, 6)
    np.testing.assert_array_equal(model(x), x[..., [0, 2, 4, 1, 3, 5]])


def test_one_group_needs_no_shuffle():
    inputs = keras.Input((2, 3, 6))
    assert _shuffle(inputs, 1, name="shuffle") is inputs
