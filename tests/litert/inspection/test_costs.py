"""Multiply-adds against formulas of layers, on exported and on handmade files, and against published counts."""

import keras
import pytest
from handmade import model, serialized, tensor

from keras_kd.litert import read_file
from keras_kd.litert.inspection import inspect_tflite, multiply_adds

layers = keras.layers


def cost(name, shapes, output, *options, places=None):
    """Of one operator with inputs of these shapes; None for a missing input."""
    tensors = [tensor(str(number), shape) for number, shape in enumerate(shape for shape in shapes if shape)]
    numbers = iter(range(len(tensors)))
    inputs = [next(numbers) if shape else -1 for shape in shapes]
    tensors.append(tensor("output", output))
    made = model(tensors, [(name, inputs, [len(tensors) - 1], *options)])
    (graph,) = read_file(serialized(made)).graphs
    return multiply_adds(graph.operators[0], graph)


def test_exported_layers(export_bytes):
    """Every layer's outputs times the products behind each of them, worked out from Keras' layers."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 10, 4), name="image")
    x = layers.Conv2D(8, (3, 5), strides=2, padding="same", use_bias=True)(image)  # [6, 5, 8]
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)  # [4, 3, 16]
    x = layers.Conv2D(6, 1, groups=1, activation="relu")(x)  # [4, 3, 6]
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)  # [8, 6, 5]
    x = layers.Dense(7)(x)  # [8, 6, 7]
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    counted = {one.name: one.multiply_adds for one in inspect_tflite(export_bytes(model)).kinds}
    assert counted["CONV_2D"] == 6 * 5 * 8 * (3 * 5 * 4) + 4 * 3 * 6 * 16
    assert counted["DEPTHWISE_CONV_2D"] == 4 * 3 * 16 * (3 * 3)
    assert counted["TRANSPOSE_CONV"] == 4 * 3 * 6 * (2 * 2 * 5)
    assert counted["FULLY_CONNECTED"] == 8 * 6 * 7 * 5 + 3 * 7
    assert counted["MEAN"] == 0


def test_formats_count_alike(export_bytes):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(5)]
    )
    samples = keras.random.normal((8, 8, 8, 2), seed=0)
    expected = 6 * 6 * 4 * 3 * 3 * 2 + 5 * 6 * 6 * 4
    for form in ("float32", "float16", "int8"):
        content = export_bytes(model, format=form, calibration=None if form[0] == "f" else samples)
        assert inspect_tflite(content).multiply_adds == expected


def test_recurrent_net(export_bytes):
    """Keras' LSTM: 4 gates, each a matrix for the input and one for the state, at each of 7 steps.

    The first state is zero, so the converter drops its products.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((7, 3)), layers.LSTM(5, unroll=True), layers.Dense(2)])
    lstm = inspect_tflite(export_bytes(model))
    assert lstm.multiply_adds == 7 * 4 * 3 * 5 + 6 * 4 * 5 * 5 + 5 * 2
    fused = [(2, 7, 3), *[(5, 3)] * 4, *[(5, 5)] * 4, None, None, None, *[(5,)] * 4, None, None, (2, 5), (2, 5)]
    assert cost("UNIDIRECTIONAL_SEQUENCE_LSTM", fused, (2, 7, 5)) == 2 * 7 * 4 * (3 * 5 + 5 * 5)


@pytest.mark.parametrize(
    ("name", "shapes", "output", "options", "expected"),
    [
        ("CONV_2D", [(2, 9, 9, 6), (4, 3, 3, 2), (4,)], (2, 7, 7, 4), (), 2 * 7 * 7 * 4 * 3 * 3 * 2),
        ("CONV_2D", [(None, 9, 9, 6), (4, 3, 3, 6), (4,)], (None, 7, 7, 4), (), 7 * 7 * 4 * 3 * 3 * 6),
        ("CONV_3D", [(1, 8, 8, 8, 3), (2, 3, 4, 3, 5)], (1, 7, 6, 5, 5), (), 7 * 6 * 5 * 5 * 2 * 3 * 4 * 3),
        ("CONV_3D_TRANSPOSE", [(5,), (2, 3, 4, 7, 5), (1, 6, 6, 6, 5)], (1, 7, 8, 9, 7), (), 6**3 * 5 * 2 * 3 * 4 * 7),
        ("FULLY_CONNECTED", [(2, 3, 8), (5, 8)], (2, 3, 5), (), 2 * 3 * 5 * 8),
        ("BATCH_MATMUL", [(2, 3, 4, 8), (2, 3, 8, 5)], (2, 3, 4, 5), (), 2 * 3 * 4 * 5 * 8),
        ("BATCH_MATMUL", [(8, 4), (8, 5)], (4, 5), (("BatchMatMulOptions", {"adjX": True}),), 4 * 5 * 8),
        ("UNIDIRECTIONAL_SEQUENCE_RNN", [(2, 7, 3), (5, 3), (5, 5), (5,), (2, 5)], (2, 7, 5), (), 14 * (15 + 25)),
        ("RNN", [(2, 3), (5, 3), (5, 5), (5,), (2, 5)], (2, 5), (), 2 * (15 + 25)),
        ("SVDF", [(2, 3), (6, 3), (6, 4), None, (2, 24)], (2, 6), (), 2 * (6 * 3 + 6 * 4)),
        ("LSTM", [(2, 3), (2, 5), (20, 8), (20,), (2, 5)], (2, 5), (("LSTMOptions", {"kernelType": 1}),), 2 * 20 * 8),
        ("SOFTMAX", [(2, 5)], (2, 5), (), 0),
        ("WHILE", [(2, 5)], (2, 5), (), None),
        ("STABLEHLO_DOT_GENERAL", [(2, 5), (5, 3)], (2, 3), (), None),
        ("CALL_ONCE", [], (1,), (), None),
        ("FlexMatMul", [(2, 5), (5, 3)], (2, 3), (), None),
        # shapes that do not fit
        ("CONV_2D", [(2, 9, 9, 6), (4, 3, 3)], (2, 7, 7, 4), (), None),
        ("CONV_2D", [(2, 9, 9, 6)], (2, 7, 7, 4), (), None),
        ("CONV_2D", [(2, 9, 9, 6), (4, 3, 3, 6)], (), (), None),
        ("FULLY_CONNECTED", [(2, 8), None], (2, 5), (), None),
        ("FULLY_CONNECTED", [(2, 8), (5, 8)], (2**31 - 1,) * 9, (), None),
        ("FULLY_CONNECTED", [(2, 8), (5, 2**31 - 1)], (2**31 - 1,) * 8, (), (2**31 - 1) ** 9),
    ],
    ids=str,
)
def test_one_operator(name, shapes, output, options, expected):
    assert cost(name, shapes, output, *options) == expected


def test_lstm_with_projection_in_both_directions():
    """Without input gate (a coupled one), with a projection to 4; forward, then backward."""
    one = [None, *[(5, 3)] * 3, None, *[(5, 4)] * 3, None, None, None, None, *[(5,)] * 3, (4, 5), None]
    products = 3 * 5 * 3 + 3 * 5 * 4 + 4 * 5
    assert cost("LSTM", [(2, 3), *one, (2, 4), (2, 5)], (2, 4)) == 2 * products
    both = [(2, 7, 3), *one, *one, (2, 4), (2, 5), (2, 4), (2, 5), *[None] * 9]
    assert cost("BIDIRECTIONAL_SEQUENCE_LSTM", both, (2, 7, 8)) == 2 * 7 * 2 * products
    cell = [(5, 3), (5, 5), (5,), (2, 5)]
    assert cost("BIDIRECTIONAL_SEQUENCE_RNN", [(2, 7, 3), *cell, *cell, None, None, None], (2, 7, 10)) == 28 * 40


@pytest.mark.long
@pytest.mark.parametrize(("alpha", "size", "millions"), [(1.0, 224, 300), (0.35, 96, 11)])
def test_published_counts(alpha, size, millions, export_bytes):
    """MobileNetV2: the column "MACs (M)" of `slim/nets/mobilenet/README.md` in tensorflow/models.

    The first is in table 4 of the paper as well (M. Sandler et al., 2018).
    """
    model = keras.applications.MobileNetV2(input_shape=(size, size, 3), alpha=alpha, weights=None)
    assert inspect_tflite(export_bytes(model)).multiply_adds / 1e6 == pytest.approx(millions, abs=1)
