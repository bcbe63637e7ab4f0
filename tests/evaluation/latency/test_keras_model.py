"""What the child of a Keras model does, in this process."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.latency._keras_model import KerasSubject

layers = keras.layers


@pytest.fixture
def subject(tmp_path):
    """A function that saves a model and returns its subject, which has loaded it."""

    def load(model, open_size=1):
        model.save(tmp_path / "net.keras")
        found = KerasSubject(str(tmp_path / "net.keras"), open_size)
        found.prepare()
        found.load()
        return found

    return load


def test_a_sequential_model(subject):
    one = subject(keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(3, 2)]))
    assert list(one.inputs().values()) == ["1x4x4x2 float32"]
    assert one.run().shape == one.bind()().shape == (1, 3, 3, 3)


def test_several_inputs_and_outputs(subject, pair):
    one = subject(pair)
    assert one.inputs() == {"features": "1x4 float32", "ids": "1x3 int32"}
    outputs = one.run()
    assert {name: array.shape for name, array in outputs.items()} == {"chance": (1, 1), "scores": (1, 3)}
    assert all(isinstance(array, np.ndarray) for array in outputs.values())


def test_inputs_by_name_in_a_dictionary(subject):
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    model = keras.Model({"second": second, "first": first}, layers.Concatenate()([first, second]))
    one = subject(model)
    assert one.inputs() == {"first": "1x2 float32", "second": "1x3 float32"}
    assert one.run().shape == (1, 5)


def test_open_dimensions_and_a_static_batch(subject):
    text = keras.Input((None,), dtype="int32", name="text")
    one = subject(keras.Model(text, layers.GlobalAveragePooling1D()(layers.Embedding(2, 3)(text))), open_size=7)
    assert one.inputs() == {"text": "1x7 int32"}
    assert one.run().shape == (1, 3)
    static = keras.Input(batch_shape=(5, 2), name="static")
    assert subject(keras.Model(static, layers.Dense(1)(static))).inputs() == {"static": "5x2 float32"}


def test_text_is_refused(subject):
    text = keras.Input((1,), dtype="string", name="words")
    with pytest.raises(ConfigurationError, match="'words' cannot be filled at random. Received: string"):
        subject(keras.Model(text, layers.Identity()(text))).inputs()
