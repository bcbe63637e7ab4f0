"""Metadata written into a file and read back: by our reader, by ZIP tools, and as another tool wrote them."""

import dataclasses
import io
import json
import random
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.export import InputInfo, Metadata, OutputInfo, add_metadata, export_tflite, read_metadata
from keras_kd.export.metadata import embedded

layers = keras.layers
LABELS = ("a cat", "Ärger 犬", "c")


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="photo")
    return keras.Model(image, layers.Dense(3, name="scores")(layers.Flatten()(layers.Conv2D(2, 3)(image))))


@pytest.fixture(scope="module")
def content(net, export_bytes):
    return export_bytes(net)


@pytest.fixture
def file(content, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    return path


def photos(**changes):
    settings = {
        "name": "pets",
        "description": "Tells three kinds of pets apart.",
        "version": "1.2",
        "author": "Ada",
        "license": "Apache-2.0",
        "inputs": InputInfo("a photo", mean=(127.5, 127.5, 120.0), std=(127.5, 127.5, 60.0), is_image=True),
        "outputs": OutputInfo("one score for each pet", labels=LABELS),
        "provenance": {"teacher": "sha256:12", "recipe": {"epochs": 3}},
    }
    return Metadata(**settings | changes)


def test_read_back(file, content):
    assert read_metadata(file) is None
    add_metadata(file, photos())
    found = read_metadata(file)
    (model_input,), (model_output,) = found.inputs.values(), found.outputs.values()
    assert list(found.inputs) == ["photo"] and list(found.outputs) == list(litert.Model(content).outputs)
    assert dataclasses.replace(found, inputs=model_input, outputs=model_output) == photos()
    add_metadata(file, found)  # by name
    assert read_metadata(file) == found


def test_the_model_stays_the_same(file, content, net):
    images = np.random.default_rng(0).random((4, 6, 6, 3), dtype="float32")
    add_metadata(file, photos())
    before, after = litert.Model(content).predict(images), litert.Model(file).predict(images)
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])
    assert litert.read_file(file).graphs == litert.read_file(content).graphs
    others = litert.read_file(content).metadata
    assert others and {name: litert.read_file(file).metadata[name] for name in others} == others


def test_written_again_they_take_the_place_of_the_first(file):
    add_metadata(file, photos())
    once = file.read_bytes()
    add_metadata(file, photos())
    assert file.read_bytes() == once
    add_metadata(file, Metadata(name="other"))
    assert len(file.read_bytes()) < len(once) and not zipfile.is_zipfile(file)
    found = read_metadata(file)
    assert found.name == "other" and found.provenance == {} and found.outputs[next(iter(found.outputs))].labels == ()


def test_zip_tools_find_the_packed_files(file):
    add_metadata(file, photos())
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "a cat\nÄrger 犬\nc\n"
        assert json.loads(archive.read("keras_kd.json")) == photos().provenance
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_file_of_another_tool():
    """Written with `image_classifier.MetadataWriter` of tflite-support 0.4.4 from a file with two classes."""
    found = read_metadata(Path(__file__).parent / "tflite_support.tflite")
    assert found.name == "ImageClassifier" and found.description
    (one,) = found.inputs.values()
    assert (one.mean, one.std, one.is_image) == ((127.5,), (63.75,), True)
    assert [info.labels for info in found.outputs.values()] == [("cat", "dog")]


def test_export_with_metadata(net, tmp_path):
    result = export_tflite(net, tmp_path / "a.tflite", metadata=photos(), isolate=False)
    assert read_metadata(result.path).license == "Apache-2.0"
    assert result.num_bytes == result.path.stat().st_size


def test_several_inputs_and_outputs(pair, pair_inputs, tmp_path):
    outputs = {"scores": OutputInfo(labels=LABELS), "chance": OutputInfo(labels=("yes",))}
    metadata = Metadata(inputs={"features": InputInfo(mean=1, std=2.0)}, outputs=outputs)
    path = export_tflite(pair, tmp_path / "a.tflite", samples=pair_inputs, metadata=metadata, isolate=False).path
    found = read_metadata(path)
    assert found.inputs == {"features": InputInfo(mean=(1.0,), std=(2.0,)), "ids": InputInfo()}
    assert found.outputs == outputs
    for wrong in (Metadata(inputs=InputInfo()), Metadata(outputs={"score": OutputInfo()})):
        before = path.read_bytes()
        with pytest.raises(ConfigurationError, match="do not fit the file"):
            add_metadata(path, wrong)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"outputs": OutputInfo(labels=["a", "b"])}, "2 labels. Expected: 3"),
        ({"inputs": InputInfo(mean=[1, 2], std=[1, 2])}, "2 means. Expected: 1, or 3"),
    ],
    ids=["labels", "means"],
)
def test_metadata_that_do_not_fit(file, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        add_metadata(file, photos(**changes))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InputInfo(mean=1), "as many means"),
        (lambda: InputInfo(mean=1, std=0), "none of these 0"),
        (lambda: InputInfo(mean=float("nan"), std=1), "Invalid 'mean'"),
        (lambda: InputInfo(mean="x", std=1), "Invalid 'mean'"),
        (lambda: OutputInfo(labels=["a\nb", "c"]), "text of one line"),
        (lambda: OutputInfo(labels=["a\n", "c"]), "text of one line"),
        (lambda: OutputInfo(labels=None), "text of one line"),
        (lambda: OutputInfo(description=1), "Invalid 'description'"),
        (lambda: InputInfo(description=None), "Invalid 'description'"),
        (lambda: InputInfo(is_image="yes"), "Invalid 'is_image'"),
        (lambda: embedded(b"", {"name": "pets"}), "Invalid 'metadata'"),
        (lambda: OutputInfo(labels=[1, 2]), "text of one line"),
        (lambda: Metadata(name=3), "Invalid 'name'"),
        (lambda: Metadata(inputs=OutputInfo()), "one InputInfo"),
        (lambda: Metadata(provenance={"x": np.ones(2)}), "plain data"),
        (lambda: Metadata(provenance={"x": float("nan")}), "plain data"),
    ],
    ids=range(16),
)
def test_wrong_settings(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_an_image_needs_channels(pair_file, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(pair_file)
    with pytest.raises(ConfigurationError, match="is not an image"):
        add_metadata(path, Metadata(inputs={"features": InputInfo(is_image=True)}))


def test_blank_labels_keep_their_places(file):
    labels = ("", "a dog", "")
    add_metadata(file, Metadata(outputs=OutputInfo(labels=labels)))
    (output,) = read_metadata(file).outputs.values()
    assert output.labels == labels


def test_files_packed_by_hostile_tools(content):
    """Deeply nested JSON, a form of compression that the content does not have, and changed content."""
    whole = embedded(content, photos())
    start = whole.index(b"PK\x03\x04")
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("keras_kd.json", "[" * 100_000)
    name = whole.index(b"PK\x01\x02")
    deflated = whole[: name + 10] + b"\x08" + whole[name + 11 :]
    for changed in (whole[:start] + nested.getvalue(), deflated, whole.replace(b"a cat\n", b"a rat\n")):
        assert changed != whole
        with pytest.raises(ConfigurationError, match="damaged"):
            read_metadata(changed)


def test_damaged_metadata_are_read_or_refused(file):
    """No other error, no endless loop."""
    add_metadata(file, photos())
    whole, rng, refused = file.read_bytes(), random.Random(0), 0
    stored = litert.read_file(whole).metadata["TFLITE_METADATA"]
    start = whole.index(stored)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 3, 10])):
            place = rng.randrange(start, len(content))
            content[place : place + 1] = bytes([rng.randrange(256)])
        try:
            read_metadata(bytes(content))
        except ConfigurationError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused > 30
