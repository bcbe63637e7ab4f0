"""Quantization of tensors, against LiteRT's own reference kernel."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert.tensors import Tensor, dequantize, quantize


@pytest.fixture(scope="module")
def quantize_kernel(tmp_path_factory):
    """A function [16] -> int8 [16] that runs TFLite's reference QUANTIZE operator with scale 1/128 and zero point 0."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    folder = tmp_path_factory.mktemp("quantize")
    model = keras.Sequential([keras.Input((4, 4)), keras.layers.Reshape((16,))])
    signature = [keras.InputSpec(shape=(1, 4, 4), dtype="float32")]
    model.export(str(folder), format="tf_saved_model", verbose=False, input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    limits = np.linspace(-1, 127 / 128, 16, dtype="float32").reshape(1, 4, 4)
    converter.representative_dataset = lambda: iter([[limits]])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_output_type = tf.int8
    content = converter.convert()

    resolver = OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] is np.float32
    assert target["quantization"] == (1 / 128, 0)

    def run(values):
        interpreter.set_tensor(source["index"], values.reshape(1, 4, 4))
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])[0]

    return run


@pytest.mark.filterwarnings("ignore:\\s*Warning. tf.lite.Interpreter is deprecated:UserWarning")
def test_quantize_equals_the_reference_kernel_on_halves_limits_and_ordinary_numbers(quantize_kernel):
    halves = (np.arange(-8, 8, dtype="float32") + 0.5) / 128
    beyond = np.linspace(-3, 3, 16, dtype="float32")
    ordinary = np.random.default_rng(0).uniform(-1, 1, 16).astype("float32")
    for values in (halves, beyond, ordinary):
        np.testing.assert_array_equal(quantize(values, 1 / 128, 0, np.int8), quantize_kernel(values))


def test_quantize_does_not_round_up_the_largest_number_below_a_half():
    below_half = np.nextafter(np.float32(0.5), np.float32(0))
    assert quantize(np.array([below_half, -below_half, 0.5]), 1.0, 0, np.int8).tolist() == [0, 0, 1]


def test_dequantize_is_the_formula():
    values = np.array([-128, -1, 0, 127], np.int8)
    expected = [0.1 * (int(value) - 5) for value in values]
    np.testing.assert_allclose(dequantize(values, 0.1, 5), expected, rtol=1e-6)
    assert dequantize(values, 0.1, 5).dtype == np.float32


def tensor(dtype, scale=0.0, zero_point=0):
    return Tensor("x", 0, (None, 4), np.dtype(dtype), scale, zero_point)


def test_a_number_comes_back_within_half_a_step():
    values = np.random.default_rng(1).uniform(-1, 1, 1000).astype("float32")
    quantized = tensor("int8", 2 / 255, -1)
    back = quantized.decode(quantized.encode(values))
    assert np.abs(back - values).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers_stay_integers(dtype):
    ids = np.array([0, 1, 100]).astype(dtype)
    encoded = tensor("int32").encode(ids)
    assert encoded.dtype == np.int32 and encoded.tolist() == ids.tolist()
    np.testing.assert_array_equal(tensor("int32").decode(encoded), encoded)


def test_large_token_ids_are_not_rounded():
    """Above 2^24, float32 does not represent every integer."""
    ids = np.array([2**24 + 1, 2**31 - 1])
    assert tensor("int32").encode(ids).tolist() == ids.tolist()
    assert tensor("int64").encode(np.array([2**53 + 1])).tolist() == [2**53 + 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([3.0, 4.0]), "'x' takes whole numbers. Received: float64. Expected: integers that fit into int32"),
        (
            np.array([2**31]),
            "'x' cannot hold these integers. Received: 2147483648..2147483648. Expected: .* -2147483648..",
        ),
    ],
)
def test_what_an_integer_tensor_cannot_hold_is_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        tensor("int32").encode(values)


def test_whole_numbers_become_floats_where_the_tensor_is_one():
    encoded = tensor("float32").encode(np.array([3, 255], np.uint8))
    assert encoded.dtype == np.float32 and encoded.tolist() == [3, 255]


def test_open_dimensions_are_read_off_the_details():
    details = {"index": 7, "shape": np.array([1, 4]), "dtype": np.int8, "quantization": (0.5, -3)}
    read = Tensor.from_details("x", details | {"shape_signature": np.array([-1, 4])})
    assert (read.name, read.index, read.shape, read.dtype) == ("x", 7, (None, 4), np.dtype("int8"))
    assert (read.scale, read.zero_point, read.is_quantized) == (0.5, -3, True)
    assert Tensor.from_details("x", details | {"shape_signature": np.array([])}).shape == (1, 4)
