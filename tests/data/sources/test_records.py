import numpy as np

from keras_kd.data.sources.records import Scaling


def test_scaling_is_the_same_in_numpy_and_tensorflow():
    import tensorflow as tf

    stored = np.arange(256, dtype=np.uint8)
    scaling = Scaling.to_range(255, (-1.0, 1.0))
    np.testing.assert_array_equal(scaling(stored), scaling(tf.constant(stored)).numpy())
    np.testing.assert_allclose(scaling(stored), stored / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(Scaling.to_range(255, (0.0, 1.0))(stored), stored.astype("float32") / 255)
