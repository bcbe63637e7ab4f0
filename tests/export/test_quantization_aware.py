"""Models of all kinds of layers, from quantization-aware training to an integer file that LiteRT runs."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.compression import QuantizationAware
from keras_kd.export import export_tflite

layers = keras.layers
INTEGERS = {"int8", "int32", "bool"}


def export_after_a_step(model, inputs, path, **settings):
    """The result, and the dtypes of all tensors of the file."""
    aware = QuantizationAware(**settings).apply(model, verbose=False)
    aware.compile(keras.optimizers.SGD(0.01), "mse")
    aware.fit(inputs, np.zeros((len(inputs), *model.output_shape[1:])), epochs=1, batch_size=len(inputs), verbose=0)
    result = export_tflite(aware, path, format="int8", samples=inputs, isolate=False)
    graphs = litert.read_operators(result.path.read_bytes())
    dtypes = {dtype for graph in graphs for one in graph for dtype in one.input_dtypes + one.output_dtypes}
    return result, dtypes - {None}


def images():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(layers.Rescaling(0.5, -0.1)(image))
    x = y = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    y = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y)))
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 1)(y))])
    x = layers.ReLU()(layers.BatchNormalization()(x))  # which no convolution takes in
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([layers.SeparableConv2D(4, 3, padding="same", activation="relu")(x), x])
    x = layers.AveragePooling2D(2)(layers.MaxPooling2D(2)(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2DTranspose(4, 3)(x)))
    x = layers.BatchNormalization()(layers.Dense(12)(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(4, activation="softmax")(x)), (8, 8, 3)


def sequences():
    sequence = keras.Input((6, 8))
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(sequence)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)]))
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 8), bias_axes="d", activation="gelu")(x)
    return keras.Model(sequence, layers.Dense(4)(layers.GlobalAveragePooling1D()(x))), (6, 8)


def recurrent():
    sequence = keras.Input((10, 6))
    return keras.Model(sequence, layers.Dense(4)(layers.LSTM(16, unroll=True)(sequence))), (10, 6)


@pytest.mark.parametrize("make", [images, sequences, recurrent])
def test_layers_of_all_kinds_become_integer_operators(make, tmp_path):
    keras.utils.set_random_seed(0)
    model, shape = make()
    inputs = np.random.default_rng(0).normal(size=(200, *shape)).astype("float32")
    result, dtypes = export_after_a_step(model, inputs, tmp_path / "net.tflite")
    assert dtypes <= INTEGERS and result.float_operators == ()
    assert result.agreement >= 0.9 and result.ranges == "trained"  # after one step, many outputs are almost tied


def test_learned_steps_and_skipped_layers(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(4, name="head")]
    )
    inputs = np.random.default_rng(0).normal(size=(100, 8, 8, 1)).astype("float32")
    result, dtypes = export_after_a_step(model, inputs, tmp_path / "net.tflite", algorithm="lsq")
    assert dtypes <= INTEGERS and result.agreement >= 0.95
    result, _ = export_after_a_step(model, inputs, tmp_path / "net.tflite", skip=["head"])
    assert "FULLY_CONNECTED" in result.float_operators and "CONV_2D" not in result.float_operators


@pytest.mark.long
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50"])
def test_applications_become_integer_operators(name, tmp_path):
    keras.utils.set_random_seed(0)
    settings = {"minimalistic": False} if name == "MobileNetV3Small" else {}
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **settings)
    inputs = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype("float32")
    result, dtypes = export_after_a_step(model, inputs, tmp_path / "net.tflite")
    assert dtypes <= INTEGERS, result.float_operators


@pytest.mark.long
def test_a_transformer_becomes_integer_operators(tmp_path):
    keras.utils.set_random_seed(0)
    tokens = keras.Input((8,), dtype="int32")
    x = layers.Embedding(20, 16)(tokens)
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
        y = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    model = keras.Model(tokens, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))
    inputs = np.random.default_rng(0).integers(0, 20, (200, 8)).astype("int32")
    result, dtypes = export_after_a_step(model, inputs, tmp_path / "net.tflite")
    assert dtypes <= INTEGERS and result.agreement >= 0.95
