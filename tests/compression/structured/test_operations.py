"""Multiply-accumulates, against those that TensorFlow's profiler counts."""

import keras
import pytest
from prunable import MODELS

from keras_kd.compression import operations


def profiled(model):
    """Half the floating-point operations of the convolutions and matrix products of a graph."""
    tf = pytest.importorskip("tensorflow")
    inputs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    graph = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0])).get_concrete_function(*inputs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    waiting, total = [tf.compat.v1.profiler.profile(graph, cmd="op", options=options)], 0
    while waiting:
        node = waiting.pop()
        waiting += node.children
        total += node.float_ops if node.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul") else 0
    return total / 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's profiler")
@pytest.mark.parametrize("name", ["residual", "nested", "perceptron"])
def test_operations_are_those_of_the_profiler(name):
    model = MODELS[name]()
    assert operations(model) == profiled(model)


def test_operations_of_grouped_kernels():
    """By hand: positions, kernel, inputs per group, outputs."""
    stem, groups, plain = 36 * 1 * 3 * 12, 36 * 9 * 4 * 12, 16 * 9 * 12 * 12
    assert operations(MODELS["grouped"]()) == stem + groups + plain + 4 * 9 * 12 * 8 + 4 * 1 * 1 * 16 + 16 * 5


def test_operations_of_sequences_and_attention():
    """By hand: [length, channels] = [6, 8], 4 heads of 3 and 2, 2 heads of 4."""
    first = 6 * 8 * 4 * (3 + 3 + 2) + 6 * (4 * 2) * 8 + 4 * 6 * 6 * (3 + 2)
    second = 6 * 8 * 2 * (4 + 4 + 4) + 6 * (2 * 4) * 6 + 2 * 6 * 6 * (4 + 4)
    assert operations(MODELS["transformer"]()) == first + 2 * 6 * 8 * 16 + second + 6 * 5
    lstm = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    assert operations(lstm) == 5 * (3 * 16 + 4 * 16)
