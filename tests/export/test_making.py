"""Which engine writes a file, and why."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ExportError
from keras_kd.export import _making, export_tflite, formats

layers = keras.layers


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(40, 64)).astype("float32")


@pytest.fixture(scope="module")
def net():
    """TensorFlow's converter has no int16 kernel for a part of the normalization."""
    keras.utils.set_random_seed(0)
    features = keras.Input((64,), name="features")
    x = layers.LayerNormalization(name="norm")(layers.Dense(32, activation="relu", name="hidden")(features))
    return keras.Model(features, layers.Dense(4, name="scores")(x))


@pytest.fixture
def export(net, samples, tmp_path):
    def export(**options):
        options = {"calibration": samples} | options
        return export_tflite(net, tmp_path / "net.tflite", isolate=False, **options)

    return export


def test_tensorflow_writes_what_it_can(export):
    result = export(format="int8")
    assert (result.quantizer, result.reason, result.calibration) == ("TensorFlow", "", None)
    assert result.snr > 25 and result.ranges == "measured"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": "int4"}, "the only one that writes this format"),
        ({"format": formats.Mixed({"scores": "float32"})}, "the only one that writes this format"),
        ({"format": "int8", "calibration_method": "mse"}, "the only one that takes mse ranges"),
        ({"format": "int16x8"}, "TensorFlow's converter rejected the model"),
    ],
    ids=["int4", "mixed", "method", "rejected"],
)
def test_ai_edge_quantizer_writes_the_rest(options, reason, export, samples, net):
    result = export(**options)
    assert (result.quantizer, result.reason) == ("ai-edge-quantizer", reason)
    assert f"by ai-edge-quantizer ({reason})" in str(result)
    (output,) = litert.Model(result.path).predict(samples).values()
    noise = np.square(output.astype("float64") - net.predict(samples, verbose=0)).sum()
    signal = np.square(net.predict(samples, verbose=0).astype("float64")).sum()
    assert result.snr == pytest.approx(10 * np.log10(signal / noise), abs=0.05) and result.snr > 12
    assert (result.calibration is None) == (options["format"] == "int4")


def test_inputs_and_outputs_in_float(export):
    result = export(format="int8_float_io")
    model = litert.Model(result.path)
    assert {one.dtype for one in (*model.inputs.values(), *model.outputs.values())} == {np.dtype("float32")}
    assert (result.format, result.quantizer) == ("int8_float_io", "TensorFlow") and "NEG" == ",".join(
        result.float_operators
    )


def test_a_rejection_by_both_is_that_of_tensorflow(export, monkeypatch):
    def refuse(*arguments):
        raise ExportError("no")

    monkeypatch.setattr(_making, "quantize", refuse)
    with pytest.raises(ExportError, match="TFLite converter rejected the model"):
        export(format="int16x8")


def test_a_file_left_in_float_is_refused(export, monkeypatch, tmp_path):
    monkeypatch.setattr(_making, "quantize", lambda content, form, ranges: content)
    with pytest.raises(ExportError, match="ai-edge-quantizer left the file in float.*weights in int4"):
        export(format="int4")
    assert not list(tmp_path.iterdir())


def test_a_difference_that_rounding_does_not_explain_is_refused(export, tmp_path):
    with pytest.raises(ExportError, match="'scores'.*more than rounding explains.*at least 60 dB"):
        export(format="int8", min_snr=60)
    assert not list(tmp_path.iterdir())
    assert export(format="int8", min_snr=-100).snr > 0


@pytest.mark.skipif(not hasattr(keras.quantizers, "Int4QuantizationConfig"), reason="new in Keras 3.14")
def test_a_lost_activation_is_refused(samples, tmp_path):
    """The converter drops the ReLU of Keras' own block-wise int4 layers without bias, and so all that is above zero."""
    keras.utils.set_random_seed(0)
    layer = layers.Dense(64, "relu", use_bias=False)
    net = keras.Sequential([keras.Input((64,)), layer, layers.Dense(8)])
    layer.quantize(config=keras.quantizers.Int4QuantizationConfig(block_size=32))
    for form in ("float32", "dynamic"):
        with pytest.raises(ExportError, match="TFLite file differs from"):
            export_tflite(net, tmp_path / "net.tflite", format=form, samples=samples, isolate=False)
    assert not list(tmp_path.iterdir())
