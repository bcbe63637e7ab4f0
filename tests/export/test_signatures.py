"""Several models in one file, each against its Keras model in a bare interpreter."""

import dataclasses

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_kd.errors import ConfigurationError, ExportError
from keras_kd.evaluation import TFLiteRunner
from keras_kd.export import export_signatures, export_tflite, formats, inspect_tflite, tflite
from keras_kd.litert import Model

layers = keras.layers


@pytest.fixture(scope="module")
def models():
    """A classifier and its body."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(16, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    features = layers.Dense(64, activation="relu", name="features")(x)
    return {
        "classify": keras.Model(image, layers.Dense(5, name="scores")(features)),
        "embed": keras.Model(image, features),
    }


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((40, 12, 12, 1), dtype="float32")


def in_interpreter(path, name, images):
    """The outputs of a signature by the bare interpreter, dequantized by hand."""
    runner = Interpreter(str(path)).get_signature_runner(name)
    ((key, given),) = runner.get_input_details().items()
    ((_, taken),) = runner.get_output_details().items()
    outputs = []
    for image in images[:, None]:
        if given["dtype"] != np.float32:
            scale, zero = given["quantization"]
            image = np.clip(np.round(image / scale) + zero, -128, 127).astype(given["dtype"])
        (output,) = runner(**{key: image}).values()
        scale, zero = taken["quantization"]
        outputs.append((output.astype("float64") - zero) * scale if scale else output)
    return np.concatenate(outputs)


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int8", "int8_float_io", "int4"])
def test_each_signature_computes_its_model(models, images, tmp_path, format):
    path = tmp_path / "both.tflite"
    found = export_signatures(models, path, format=format, calibration=images)
    assert list(found) == ["classify", "embed"] and {one.num_bytes for one in found.values()} == {path.stat().st_size}
    alone = export_tflite(models["classify"], tmp_path / "alone.tflite", format=format, calibration=images)
    assert found["classify"].num_bytes < 1.7 * alone.num_bytes  # the weights are shared
    for name, model in models.items():
        reference, output = model(images).numpy(), in_interpreter(path, name, images)
        noise = 10 * np.log10(np.square(reference).sum() / np.square(reference - output).sum())
        assert noise > {"float32": 100, "float16": 50, "int4": 10}.get(format, 25)
        assert found[name].snr == pytest.approx(noise, abs=0.5)
        np.testing.assert_allclose(TFLiteRunner(path, signature=name).predict(images), output, atol=1e-5)


def test_names_shapes_and_the_main_graph(models, images, tmp_path):
    path = tmp_path / "both.tflite"
    export_signatures(models, path, samples=images)
    signatures = Interpreter(str(path)).get_signature_list()
    assert signatures == {
        "classify": {"inputs": ["image"], "outputs": ["scores"]},
        "embed": {"inputs": ["image"], "outputs": ["features"]},
    }
    assert [one.key for one in inspect_tflite(path).signatures] == ["classify", "embed"]
    np.testing.assert_allclose(TFLiteRunner(path).predict(images), models["classify"](images), atol=1e-5)
    runner = TFLiteRunner(path, signature="embed")
    assert runner.run(runner.prepare(images[:1])).shape == (1, 64)
    with pytest.raises(ConfigurationError, match=r"no such signature.*'none'.*'classify', 'embed'"):
        Model(path, signature="none")


def test_one_model_for_two_sizes_with_samples_of_each(tmp_path):
    keras.utils.set_random_seed(0)
    parts = [
        keras.Input((None, None, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ]
    whole = keras.Sequential(parts)
    small, large = (keras.Model(image := keras.Input((n, n, 1), name="image"), whole(image)) for n in (8, 16))
    generator = np.random.default_rng(0)
    samples = {f"size_{n}": generator.random((30, n, n, 1), dtype="float32") for n in (8, 16)}
    path = tmp_path / "sizes.tflite"
    found = export_signatures({"size_8": small, "size_16": large}, path, format="int8", calibration=samples)
    for name, model in (("size_8", small), ("size_16", large)):
        np.testing.assert_allclose(in_interpreter(path, name, samples[name]), model(samples[name]), atol=0.05)
        assert found[name].num_samples == 30


def test_the_main_graph_is_not_taken_for_another_one_of_its_structure(images, tmp_path):
    """The indices of their tensors are equal; the converter sorts signatures."""
    named = {"z": "cats", "a": "dogs"}
    net = {}
    for key, name in named.items():
        image = keras.Input((12, 12, 1), name="image")
        net[key] = keras.Model(image, layers.Dense(3, name=name)(layers.Flatten()(image)))
    path = tmp_path / "pair.tflite"
    export_signatures(net, path, samples=images)
    assert list(Model(path).outputs) == list(Model(path, signature="a").outputs) == ["dogs"]
    assert list(Model(path, signature="z").outputs) == ["cats"]
    np.testing.assert_allclose(TFLiteRunner(path).predict(images), net["a"](images), atol=1e-5)
    np.testing.assert_allclose(TFLiteRunner(path, signature="z").predict(images), net["z"](images), atol=1e-5)


def test_an_open_batch(models, images, tmp_path):
    export_signatures(models, tmp_path / "open.tflite", samples=images, batch_size=None)
    model = Model(tmp_path / "open.tflite", signature="embed")
    np.testing.assert_allclose(model.predict(images)["features"], models["embed"](images), atol=1e-5)


def test_a_wrong_signature_is_found(models, images, tmp_path, monkeypatch):
    """The comparison of the second signature fails if its weights are not those of its model."""
    other = keras.models.clone_model(models["embed"])
    other.set_weights([-weight for weight in models["embed"].get_weights()])
    prepared = tflite.Export.prepared.__func__

    def swapped(cls, model, *rest):
        work = prepared(cls, model, *rest)
        return work if model is models["classify"] else dataclasses.replace(work, model=other)

    monkeypatch.setattr(tflite.Export, "prepared", classmethod(swapped))
    with pytest.raises(ExportError, match=r"Output 'features' of the TFLite file"):
        export_signatures(models, tmp_path / "wrong.tflite", format="int8", calibration=images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": {}}, "at least two models"),
        ({"models": None}, "at least two models"),
        ({"only": "classify"}, "export_tflite"),
        ({"rename": "a/b"}, r"'a/b'.*letters, digits"),
        ({"rename": 3}, "letters, digits"),
        ({"format": "int16x8"}, "mixes up the ranges"),
        ({"format": formats.Mixed({"features": "float32"})}, "by TensorFlow's converter only"),
        ({"format": "int8", "calibration": None}, "needs `calibration`"),
        ({"min_snr": "much"}, "min_snr"),
    ],
)
def test_what_does_not_fit(models, images, tmp_path, options, message):
    settings = {"models": models, "calibration": images} | options
    if "only" in options:
        settings["models"] = {settings.pop("only"): models["classify"]}
    if "rename" in options:
        settings["models"] = {settings.pop("rename"): models["classify"], "embed": models["embed"]}
    with pytest.raises(ConfigurationError, match=message):
        export_signatures(settings.pop("models"), tmp_path / "none.tflite", **settings)
    assert not list(tmp_path.iterdir())
