"""The values of inner tensors, against Keras and NumPy."""

import keras
import numpy as np
import pytest

from keras_kd import litert

layers = keras.layers


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu", name="hidden"), layers.Dense(3, name="out")])


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(7, 6)).astype("float32")


def test_inner_values_are_those_of_the_layers(net, inputs, export_bytes):
    (kernel, bias), (last, shift) = (layer.get_weights() for layer in net.layers)
    hidden = np.maximum(inputs.astype("float64") @ kernel + bias, 0)
    found = list(litert.Observer(export_bytes(net, samples=inputs)).values(inputs))
    assert len(found) == 7
    joined = {name: np.concatenate([values[name] for values in found]) for name in found[0]}
    matching = [name for name, values in joined.items() if values.shape == hidden.shape]
    np.testing.assert_allclose(joined[matching[0]], hidden, rtol=1e-5, atol=1e-6)
    assert any(values.shape == inputs.shape and np.array_equal(values, inputs) for values in joined.values())
    assert any(
        np.allclose(values, hidden @ last + shift, atol=1e-5) for values in joined.values() if values.shape[1] == 3
    )


def test_quantized_values_are_real(net, inputs, export_bytes):
    content = export_bytes(net, format="int8", calibration=inputs)
    observer = litert.Observer(content)
    values = [next(iter(batch.values())) for batch in observer.values(inputs)]
    (tensor,) = observer.inputs.values()
    assert values[0].dtype == np.float32
    np.testing.assert_allclose(np.concatenate(values), inputs, atol=tensor.scale / 2 + 1e-6)


def test_the_last_batch_is_filled_up(net, inputs, export_bytes):
    content = export_bytes(net, samples=inputs, batch_size=4)
    found = list(litert.Observer(content).values(inputs))
    assert [next(iter(values.values())).shape[0] for values in found] == [4, 4]
