"""Graphs made by hand, and small files, each converted once for all tests."""

import functools

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.litert import File, Graph, StoredOperator, StoredTensor

layers = keras.layers


def made(operators, tensors, inputs, outputs, constants=None):
    """A file with one graph.

    Args:
        operators: (name, version, names of inputs, names of outputs, options) each; None for a missing input.
        tensors: name -> (shape, dtype), or (shape, dtype, further fields).
        inputs, outputs: names of tensors.
        constants: name -> content of the tensor, an array.
    """
    content, buffers, stored = b"", [(0, 0)], []
    places = {name: place for place, name in enumerate(tensors)}
    for name, (shape, dtype, *more) in tensors.items():
        fields = {"open_shape": shape} | (more[0] if more else {})
        if name in (constants or {}):
            data = np.asarray(constants[name]).tobytes()
            fields["buffer"] = len(buffers)
            buffers.append((len(content), len(data)))
            content += data
        stored.append(StoredTensor(name, dtype, shape, **fields))

    def index(names):
        return tuple(-1 if name is None else places[name] for name in names)

    made_operators = tuple(
        StoredOperator(name, version, False, index(sources), index(targets), options)
        for name, version, sources, targets, options in operators
    )
    graph = Graph("main", tuple(stored), made_operators, index(inputs), index(outputs))
    return File(3, "made by hand", (graph,), (), tuple(buffers), {}, content)


def one(name, shapes, *, version=1, dtype="float32", constants=None, options=None, output=None):
    """A file with one operator, whose inputs are i0, i1, ... and whose output is y.

    Args:
        shapes: of the inputs; None for a missing one.
        constants: place of an input -> its content, an array; its dtype is that of the array.
        output: (shape, dtype) of the output; default: the first input's.
    """
    constants = {f"i{place}": np.asarray(array) for place, array in (constants or {}).items()}
    names = [None if shape is None else f"i{place}" for place, shape in enumerate(shapes)]
    tensors = {
        key: (shape, str(constants[key].dtype) if key in constants else dtype)
        for key, shape in zip(names, shapes, strict=True)
        if key is not None
    }
    tensors["y"] = output or (shapes[0], dtype)
    computed = [key for key in names if key is not None and key not in constants]
    return made([(name, version, names, ["y"], options or {})], tensors, computed, ["y"], constants)


@pytest.fixture(scope="session")
def made_file():
    return made


@pytest.fixture(scope="session")
def one_operator():
    return one


class Function(layers.Layer):
    """A layer that applies a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def _conv():
    return [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)]


NETS = {
    "conv": ((8, 8, 3), _conv),
    "softmax": ((8, 8, 3), lambda: [*_conv(), layers.Softmax()]),
    "conv3d": ((4, 6, 6, 2), lambda: [layers.Conv3D(3, 3), layers.Flatten(), layers.Dense(2)]),
    "lstm": ((5, 4), lambda: [layers.LSTM(4), layers.Dense(2)]),
    "unrolled": ((3, 4), lambda: [layers.LSTM(4, unroll=True), layers.Dense(2)]),
    "cumsum": ((6, 4), lambda: [Function(lambda x: keras.ops.cumsum(x, axis=1))]),
    "five": ((8, 16), lambda: [Function(_in_five_dimensions), layers.Flatten(), layers.Dense(2)]),
    "normalized": ((6, 8), lambda: [layers.LayerNormalization(), layers.Dense(4, activation="gelu")]),
    "transposed": ((4, 4, 2), lambda: [layers.Conv2DTranspose(3, 3, strides=2, padding="same")]),
    "global": ((8, 8, 4), lambda: [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(keepdims=True), layers.ReLU()]),
}


def _in_five_dimensions(x):
    return keras.ops.transpose(keras.ops.reshape(x, (-1, 2, 4, 2, 8)), (0, 1, 3, 2, 4))


@functools.cache
def model(name):
    keras.utils.set_random_seed(0)
    shape, make = NETS[name]
    return keras.Sequential([keras.Input(shape), *make()])


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    """A function of the name of a net and a format that returns the content of its file."""
    folder = tmp_path_factory.mktemp("nets")

    @functools.cache
    def export(name, form="float32"):
        path = folder / f"{name}_{form}.tflite"
        samples = np.random.default_rng(0).normal(size=(8, *NETS[name][0])).astype("float32")
        calibration = {"calibration": samples} if form in ("int8", "int16x8") else {}
        kd.export.export_tflite(model(name), path, format=form, isolate=False, **calibration)
        return path.read_bytes()

    return export


@pytest.fixture(scope="session")
def converted():
    """A function of the name of a net that converts it with an open batch."""
    import tensorflow as tf

    return functools.cache(lambda name: tf.lite.TFLiteConverter.from_keras_model(model(name)).convert())
