"""What users read about models that the converter rejects, from its own answers."""

import keras
import pytest
import tensorflow as tf

from keras_kd.errors import ExportError
from keras_kd.export import _making, export_tflite, with_processing
from keras_kd.export.preparing.advice import crash_hint, refusal

layers = keras.layers


class Applies(layers.Layer):
    def __init__(self, function, **settings):
        super().__init__(**settings)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def _around(*parts, shape=(4,), dtype="float32"):
    x = inputs = keras.Input(shape, dtype=dtype, name="x")
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def _inside(layer):
    return _around(_around(layers.Dense(4), layer), layers.ReLU())


@pytest.fixture
def log_of(tmp_path, generator):
    def convert(model, format="float32"):
        samples = generator.random((4, *model.input_shape[1:]))
        samples = samples.astype(model.inputs[0].dtype)
        with pytest.raises(ExportError) as caught:
            path = tmp_path / "x.tflite"
            export_tflite(model, path, format=format, calibration=samples, samples=samples, isolate=False)
        assert not list(tmp_path.iterdir())
        return str(caught.value.__cause__)

    return convert


@pytest.mark.parametrize(
    "function, operation, advice",
    [
        (lambda x: x - keras.ops.cast(keras.ops.argmax(x, axis=-1), "float32"), "BitwiseAnd", "postprocess='argmax'"),
        (lambda x: keras.ops.fft((x, keras.ops.zeros_like(x)))[0], "FFT", "tf.signal.rfft"),
        (lambda x: x + keras.random.normal(keras.ops.shape(x)), "StatelessRandomNormalV2", "only if `training`"),
        (keras.ops.erfinv, "Erfinv", "special functions"),
        (lambda x: x * keras.ops.inv(x[:, :, None] * x[:, None])[:, 0], "MatrixInverse", "linear algebra"),
        (lambda x: (tf.print("x"), x * 2)[1], "PrintV2", "keras.ops"),
        (lambda x: tf.cast(tf.strings.length(tf.strings.as_string(x)), "float32"), "AsString", "outside"),
        (lambda x: tf.raw_ops.NextAfter(x1=x, x2=x), "NextAfter", "outside"),
    ],
    ids=["argmax", "fft", "random", "erfinv", "inverse", "print", "text", "another"],
)
def test_operations_without_an_operator_name_layer_and_way_out(log_of, function, operation, advice):
    model = _inside(Applies(function, name="own"))
    message = refusal(log_of(model), model)
    assert f"{operation} in Applies 'own'" in message and advice in message and "\n" not in message


def test_layers_of_keras(log_of):
    model = _around(layers.CategoryEncoding(num_tokens=5, output_mode="multi_hot", name="kinds"), dtype="int32")
    message = refusal(log_of(model), model)
    assert "DenseBincount in CategoryEncoding 'kinds'" in message and "keras.ops.one_hot" in message


def test_an_operation_that_is_not_a_layer(log_of):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.argmax(inputs, axis=-1))
    assert "BitwiseAnd" in (message := refusal(log_of(model), model)) and "postprocess='argmax'" in message


def test_double_precision(log_of):
    model = _around(layers.Dense(3, dtype="float64", name="wide"))
    message = refusal(log_of(model), model)
    assert "MatMul in Dense 'wide'" in message and "float64" in message and "outside" not in message


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_models_that_keras_quantized(log_of):
    model = _around(layers.Dense(3, name="small"))
    model.quantize("int8")
    assert "Dense 'small'" in (message := refusal(log_of(model), model)) and "before `quantize`" in message


def test_operators_without_a_kernel_for_16_bits(log_of, monkeypatch):
    def refuse(*arguments):
        raise ExportError("ai-edge-quantizer would leave the operator in float")

    monkeypatch.setattr(_making, "quantize", refuse)
    model = with_processing(_around(layers.Dense(3)), postprocess="argmax")
    assert "ARG_MAX" in (message := refusal(log_of(model, "int16x8"), model)) and "in the app" in message


def test_recurrent_layers_are_named():
    nested = _around(_around(layers.Bidirectional(layers.GRU(2, name="reads")), shape=(3, 2)), shape=(3, 2))
    assert "GRU 'forward_reads'" in (hint := crash_hint(nested)) and "unroll=True" in hint
    assert crash_hint(_around(layers.LSTM(2, unroll=True), shape=(3, 2))) is None


@pytest.mark.parametrize("log", ["", "Killed", "ValueError: no", "TF Select ops:", "\0" * 50, "loc(fused[" * 9])
def test_logs_that_name_nothing(log):
    assert refusal(log, _around(layers.Dense(1))) is None


def test_logs_without_places():
    message = refusal("TF Select ops: FFT2D, Foo\nCustom ops: Erfinv", _around(layers.Dense(1)))
    assert "Received: FFT2D, Foo, Erfinv." in message
    for part in ("rfft", "operations that LiteRT has", "special functions"):
        assert part in message


def test_long_logs_take_no_time():
    line = 'loc(callsite(fused["A:", "' + "a/" * 200_000 + '"] at ' + "x" * 100_000
    assert refusal(f"{line}\n" * 5, _around(layers.Dense(1))) is None
