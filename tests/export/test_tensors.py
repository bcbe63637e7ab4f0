"""Quantisation of tensors, against LiteRT's own reference kernel."""

import keras
import numpy as np
import pytest

from keras_kd.export.tensors import dequantize, from_tensor, quantize, to_tensor


@pytest.fixture(scope="module")
def quantize_kernel(tmp_path_factory):
    """Runs TFLite's reference QUANTIZE operator with scale 1/128 and zero point 0: a function [16] -> int8 [16]."""
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


def test_a_number_comes_back_within_half_a_step():
    values = np.random.default_rng(1).uniform(-1, 1, 1000).astype("float32")
    details = {"quantization": (2 / 255, -1), "dtype": np.int8}
    back = from_tensor(to_tensor(values, details), details)
    assert np.abs(back - values).max() <= 1 / 255 + 1e-6


def test_a_tensor_that_is_not_quantised_only_changes_its_dtype():
    details = {"quantization": (0.0, 0), "dtype": np.int32}
    assert to_tensor(np.array([3, 4], np.int64), details).dtype == np.int32
    assert from_tensor(np.array([3.5]), details).tolist() == [3.5]
