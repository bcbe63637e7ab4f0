"""The check of a written file rejects files that differ from the model."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ExportError
from keras_kd.export import export_tflite
from keras_kd.export._comparison import compare

SAMPLES = {"input": np.random.default_rng(0).random((40, 4), dtype="float32")}


def dense(units, name="scores"):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name=name)])


@pytest.fixture(scope="module")
def three_units(tmp_path_factory):
    """A model and its file, with a different seed than the models of the tests."""
    keras.utils.set_random_seed(1)
    model, path = dense(3), tmp_path_factory.mktemp("file") / "net.tflite"
    export_tflite(model, path, isolate=False)
    return model, path


def test_difference_and_agreement_are_those_of_the_two_outputs(three_units):
    model, file = three_units
    other = keras.models.clone_model(model)
    other.set_weights([model.get_weights()[0][:, [1, 0, 2]], np.array([0, 0, 0.5], "float32")])
    outputs, others = model.predict(SAMPLES["input"], verbose=0), other.predict(SAMPLES["input"], verbose=0)
    found = compare(other, file, SAMPLES, exact=False)
    assert found.max_difference == pytest.approx(np.abs(outputs - others).max(), rel=1e-5)
    assert found.agreement == pytest.approx((outputs.argmax(1) == others.argmax(1)).mean())
    assert found.agreement < 1
    noise = outputs.astype("float64") - others
    assert found.snr == pytest.approx(10 * np.log10((others.astype("float64") ** 2).sum() / (noise**2).sum()), abs=1e-3)


def test_another_model_is_not_exact(three_units):
    with pytest.raises(ExportError, match=r"Output 'scores'.*largest difference of .*at most"):
        compare(dense(3), three_units[1], SAMPLES, exact=True)


def test_integer_outputs_need_not_be_exact(three_units, tmp_path):
    features = keras.Input((4,), name="input")
    model = keras.Model(features, {"scores": keras.ops.cast(features * 10, "int32")})
    other = keras.Model(features, {"scores": keras.ops.cast(features * 20, "int32")})
    export_tflite(model, tmp_path / "net.tflite", isolate=False)
    assert compare(other, tmp_path / "net.tflite", SAMPLES, exact=True).max_difference > 5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (dense(2), r"Output 'scores'.*does not match.*Received: shape \(40, 3\). Expected: shape \(40, 2\)"),
        (dense(3, name="logits"), "Output 'logits'.*does not match.*Received: no such output"),
    ],
)
def test_other_outputs_are_refused(model, message, three_units):
    with pytest.raises(ExportError, match=message):
        compare(model, three_units[1], SAMPLES, exact=False)


def test_a_file_that_cannot_be_loaded_is_refused(three_units, tmp_path):
    (tmp_path / "net.tflite").write_bytes(three_units[1].read_bytes()[:100])
    with pytest.raises(ExportError, match="LiteRT cannot run the converted file"):
        compare(three_units[0], tmp_path / "net.tflite", SAMPLES, exact=False)


def test_one_step_of_the_output_is_rounding(tmp_path):
    """1,000 classes of about 0.001 are all zero in int8, whose steps are 1/256."""
    samples = np.random.default_rng(0).random((40, 4), dtype="float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1000, activation="softmax", name="scores")])
    for form in ("int8", "int8_float_io"):
        result = export_tflite(model, tmp_path / "net.tflite", format=form, calibration=samples, isolate=False)
        assert result.snr < 3 and result.max_difference < 1 / 256
