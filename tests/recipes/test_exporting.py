"""A trained file exported with data, against the models and data themselves."""

import functools

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.recipes import export_files, exporting

layers = keras.layers


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(exporting, "export_tflite", functools.partial(exporting.export_tflite, isolate=False))


@pytest.fixture
def model_file(tmp_path, make_model):
    make_model().save(tmp_path / "net.keras")
    return tmp_path / "net.keras"


def test_every_format_with_labels(model_file, tmp_path, digits):
    names = [name for name in litert.FORMATS if "block" not in name]  # its dense layer has 36 inputs
    results = list(export_files(model_file, names, data="digits", folder=tmp_path / "out"))
    assert [result.path for result in results] == [tmp_path / "out" / f"net_{name}.tflite" for name in names]
    expected = keras.models.load_model(model_file)(digits[0][:50])
    for result in results:
        assert not result.samples_are_random and result.num_samples == 200
        (outputs,) = litert.Model(result.path).predict(digits[0][:50]).values()
        np.testing.assert_allclose(outputs, expected, atol=0.4 if result.format == "int4" else 0.1)
        found = kd.export.read_metadata(result.path)
        (scores,) = found.outputs.values()
        assert found.name == "net" and scores.labels == tuple("0123456789")


def test_a_mixed_format_and_what_is_made_next(model_file):
    told, mixed = [], kd.export.formats.Mixed({"FULLY_CONNECTED": "float32"})
    results = list(export_files(model_file, ["int8", mixed, "int8"], data="digits", progress=told.append))
    assert told == ["int8", "mixed"] == [result.format for result in results]
    assert "FULLY_CONNECTED" in results[1].float_operators
    with pytest.raises(kd.errors.ConfigurationError, match="same name.*mixed, mixed"):
        list(export_files(model_file, [mixed, kd.export.formats.Mixed({"*": "float32"})], data="digits"))


def test_a_guarded_file(model_file, digits):
    plain, guarded = export_files(model_file, ["float32"], data="digits", max_accuracy_drop=1.0)
    assert guarded.export.path == model_file.with_name("net_guarded.tflite")
    assert guarded.measure == "accuracy" and guarded.num_examples == 359  # the validation split
    assert guarded.tries[guarded.chosen].drop <= 1.0 and guarded.export.num_bytes < plain.num_bytes
    (scores,) = kd.export.read_metadata(guarded.export.path).outputs.values()
    assert scores.labels == tuple("0123456789")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no data.*--data"),
        ({"data": "digits", "postprocess": "argmax"}, "'argmax', which changes what a file takes or returns"),
        ({"data": "digits", "max_accuracy_drop": -1}, "Invalid 'max_accuracy_drop'"),
    ],
    ids=["no data", "processed", "negative"],
)
def test_a_guard_that_cannot_measure(options, message, model_file):
    with pytest.raises(kd.errors.ConfigurationError, match=message):
        list(export_files(model_file, [], **{"max_accuracy_drop": 1.0} | options))
    assert not list(model_file.parent.glob("*.tflite"))


def test_images_take_the_size_of_the_model(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (9 + number, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    model = keras.Sequential([keras.Input((6, 5, 3)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.save(tmp_path / "pets.keras")
    settings = {"data": f"folder:{tmp_path / 'data'}", "value_range": (-1.0, 1.0), "num_samples": 10}
    (result,) = export_files(tmp_path / "pets.keras", ["int8"], **settings)
    found = kd.export.read_metadata(result.path)
    (image,), (scores,) = found.inputs.values(), found.outputs.values()
    assert (image.mean, image.std, image.is_image) == ((127.5,), (127.5,), True)
    assert scores.labels == ("cat", "dog") and scores.description == "probabilities" and result.num_samples == 10


def test_fake_quantized_models_need_no_data(tmp_path, make_model, digits):
    aware = kd.compression.QuantizationAware().apply(make_model(), verbose=False)
    aware.compile("sgd", "mse")
    aware.fit(digits[0][:32], np.zeros((32, 10)), verbose=0)
    aware.save(tmp_path / "aware.keras")
    int8, float32 = export_files(tmp_path / "aware.keras", ["int8", "float32"])
    assert int8.ranges == "trained" and float32.ranges is None


def test_a_model_whose_scores_are_unknown(tmp_path):
    x = layers.Flatten()(image := keras.Input((8, 8, 1)))
    both = [layers.Dense(10, activation=name)(x) for name in ("softmax", "sigmoid")]
    keras.Model(image, layers.Average()(both)).save(tmp_path / "net.keras")
    (result,) = export_files(tmp_path / "net.keras", ["float32"], data="digits")
    (found,) = kd.export.read_metadata(result.path).outputs.values()
    assert found.labels == tuple("0123456789") and found.description == ""


def test_files_from_pixels_to_classes(model_file, tmp_path, digits):
    settings = {"data": "digits", "preprocess": "pixels", "postprocess": "argmax"}
    results = list(export_files(model_file, ["float32", "int8"], **settings))
    images = digits[0][:50]
    expected = np.asarray(keras.models.load_model(model_file)(images)).argmax(-1)
    for result in results:
        (classes,) = litert.Model(result.path).predict(np.rint(images * 255).astype("float32")).values()
        assert classes.dtype == np.int32 and np.mean(classes == expected) >= 0.95
        found = kd.export.read_metadata(result.path)
        (image,), (index,) = found.inputs.values(), found.outputs.values()
        assert (image.mean, image.std) == ((0.0,), (1.0,)) and "class" in index.description
        assert index.labels == tuple("0123456789") and index.labels_are_of_values
    (image,) = kd.export.inspect_tflite(results[1].path).signatures[0].inputs.values()
    assert (image.scale, image.zero_point) == (1.0, -128)


def test_probabilities_of_a_fake_quantized_model(tmp_path, make_model, digits):
    aware = kd.compression.QuantizationAware().apply(make_model(), verbose=False)
    aware.compile("sgd", "mse")
    aware.fit(digits[0][:32], np.zeros((32, 10)), verbose=0)
    aware.save(tmp_path / "aware.keras")
    for result in export_files(tmp_path / "aware.keras", ["int8", "float32"], postprocess="softmax"):
        (scores,) = litert.Model(result.path).predict(digits[0][:9]).values()
        np.testing.assert_allclose(scores.sum(-1), 1, atol=0.05)


def test_data_without_pixels(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((40, 4), "float32"), y=np.arange(40) % 2)
    keras.Sequential([keras.Input((4,)), layers.Dense(2)]).save(tmp_path / "net.keras")
    settings = {"data": f"npz:{tmp_path / 'x.npz'}", "preprocess": "pixels"}
    with pytest.raises(ConfigurationError, match="not scaled from pixels"):
        list(export_files(tmp_path / "net.keras", ["float32"], **settings))


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("none.keras", {}, "model file does not exist"),
        ("text.keras", {}, "cannot be loaded"),
        ("net.keras", {"formats": ["int9"]}, "Invalid 'format'"),
        ("net.keras", {"formats": ["int8"]}, "needs calibration samples"),
        ("net.keras", {"data": "foo"}, "Unknown data source"),
        ("net.keras", {"preprocess": "bytes"}, "'pixels'"),
        ("net.keras", {"postprocess": "top"}, "'argmax'"),
        ("net.keras", {"data": "digits", "num_samples": 0}, "num_samples"),
        ("net.keras", {"data": "digits", "image_size": 16}, "cannot be resized"),
    ],
)
def test_wrong_settings(model_file, tmp_path, name, settings, message):
    (tmp_path / "text.keras").write_text("no model")
    settings = {"formats": ["float32"]} | settings
    with pytest.raises(ConfigurationError, match=message):
        list(export_files(tmp_path / name, settings.pop("formats"), **settings))
    assert not list(tmp_path.glob("*.tflite"))
