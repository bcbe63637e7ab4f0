"""Shapes without a run."""

import keras
import numpy as np

from keras_kd.features.tracing import ensure_built, trace

L = keras.layers


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm, self.drop = L.Dense(3), L.BatchNormalization(), L.Dropout(0.5)

    def call(self, x):
        return self.drop(self.norm(self.dense(x)))


def test_shapes_of_a_function_of_a_structure():
    inputs = {"a": keras.KerasTensor((None, 4)), "b": np.zeros((2, 4), "float16")}
    outputs = trace(lambda x: [x["a"] * 2, keras.ops.sum(x["b"], 1)], inputs)
    assert [tuple(output.shape) for output in outputs] == [(None, 4), (2,)]
    assert [output.dtype for output in outputs] == ["float32", "float16"]


def test_nothing_is_updated():
    model = Subclassed()
    model(np.ones((2, 4), "float32"))
    before = [np.array(variable) for variable in model.variables]  # statistics and random state too
    trace(lambda x: model(x, training=True), keras.KerasTensor((None, 4)))
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.losses == []


def test_a_model_is_built_as_by_a_call():
    model = Subclassed()
    ensure_built(model, keras.KerasTensor((None, 4)), training=True)
    assert model.built and [weight.shape for weight in model.weights][0] == (4, 3)
    kernel = np.array(model.dense.kernel)
    assert np.ptp(kernel) > 0
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(model(x), x @ kernel / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(model.norm.moving_mean, np.zeros(3))
