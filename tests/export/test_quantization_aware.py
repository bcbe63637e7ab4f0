"""Models of all kinds of layers, from quantization-aware training to an integer file that LiteRT runs."""

import keras
import numpy as np
import pytest

from keras_kd import litert, models
from keras_kd.compression import QuantizationAware
from keras_kd.export import export_tflite

layers = keras.layers
INTEGERS = {"int8", "int32", "bool"}


def export_after_a_step(model, inputs, path, format="int8", **settings):
    """The result, and the dtypes of all tensors of the file."""
    aware = QuantizationAware(**settings).apply(model, verbose=False)
    aware.compile(keras.optimizers.SGD(0.01), "mse")
    aware.fit(inputs, np.zeros((len(inputs), *model.output_shape[1:])), epochs=1, batch_size=len(inputs), verbose=0)
    result = export_tflite(aware, path, format=format, samples=inputs, isolate=False)
    graphs = litert.read_file(result.path).graphs
    dtypes = {dtype for graph in graphs for one in graph.operators for dtype in graph.dtypes(one.inputs + one.outputs)}
    return result, dtypes - {None}


def images():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(layers.Rescaling(0.5, -0.1)(image))
    x = y = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    y = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y)))
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 1)(y))])
    x = layers.ReLU()(layers.BatchNormalization()(x))  # which is not folded
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


def test_trained_ranges_with_float_inputs_and_outputs(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(4)])
    inputs = np.random.default_rng(0).normal(size=(200, 12)).astype("float32")
    result, _ = export_after_a_step(model, inputs, tmp_path / "net.tflite", format="int8_float_io")
    file = litert.Model(result.path)
    assert {one.dtype for one in (*file.inputs.values(), *file.outputs.values())} == {np.dtype("float32")}
    assert result.ranges == "trained" and result.snr > 30 and result.float_operators == ()


def test_the_file_normalizes_positions_without_variance_as_the_model_does(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 8))
    h = layers.LayerNormalization()(layers.Dense(8, activation="relu")(x))
    inputs = np.random.default_rng(0).normal(size=(100, 6, 8)).astype("float32")
    inputs *= np.array([1, 0, 0.005, 0.05, 1, 1], "float32")[:, None]
    result, dtypes = export_after_a_step(keras.Model(x, h), inputs, tmp_path / "net.tflite")
    assert dtypes <= INTEGERS and result.float_operators == ()
    assert result.max_difference < 0.2  # of outputs up to 3


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


def like_mobilenet_v2():
    image = keras.Input((8, 8, 1))

    def normalized(x):
        return layers.ReLU(6)(layers.BatchNormalization(momentum=0.9)(x))

    x = normalized(layers.Conv2D(16, 3, padding="same", use_bias=False)(image))
    for width, strides in ((16, 1), (24, 2), (24, 1)):
        y = normalized(layers.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x))
        y = normalized(layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(y))
        y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(width, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def like_resnet():
    return models.build("resnet8", input_shape=(8, 8, 1), num_classes=10)


def like_a_transformer():
    image = keras.Input((8, 8, 1))
    x = layers.Dense(32)(layers.Reshape((8, 8))(image))
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 16)(x, x)]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(32)(layers.Dense(64, activation="gelu")(x))]))
    return keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))


@pytest.mark.long
@pytest.mark.parametrize("make", [like_mobilenet_v2, like_resnet, like_a_transformer])
def test_the_file_predicts_what_the_model_does(make, digits, tmp_path):
    """On at least 99.5% of images that neither was trained on, and about as accurately as the float model."""
    keras.utils.set_random_seed(0)
    (x, x_test), (y, y_test) = (np.split(values, [1000]) for values in digits)
    float_model = trained(make(), x, y, epochs=20, rate=3e-3)
    model = trained(QuantizationAware(freeze=96).apply(float_model, verbose=False), x, y, epochs=4, rate=3e-4)
    result = export_tflite(model, tmp_path / "net.tflite", format="int8", samples=x_test, isolate=False)
    assert result.num_samples == 797 and result.agreement >= 0.995 and result.float_operators == ()
    right = [(one.predict(x_test, verbose=0).argmax(1) == y_test).mean() for one in (float_model, model)]
    assert right[0] > 0.9 and right[1] > right[0] - 0.01


def trained(model, x, y, *, epochs, rate):
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // 32))
    model.compile(keras.optimizers.Adam(decay), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=epochs, verbose=0)
    return model
