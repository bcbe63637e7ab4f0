"""What the code of the examples assumes, against the files that are exported."""

import re
import zipfile

import pytest

from keras_kd import litert, recipes
from keras_kd.export import microcontroller_sources

CODE = ("android/Classifier.kt", "ios/Classifier.swift", "raspberry_pi/classify.py")
FORMATS = ("float32", "int8")


@pytest.fixture(scope="module")
def models(exported):
    return {name: litert.Model(exported / f"student_{name}.tflite", num_threads=1) for name in FORMATS}


def dtypes(model):
    return {str(tensor.dtype) for tensor in (*model.inputs.values(), *model.outputs.values())}


@pytest.mark.parametrize("name", FORMATS)
def test_one_image_in_one_row_of_scores_out(models, exported, name):
    """All examples read input 0 as [1, height, width, channels], and output 0 as a score for each label."""
    ((image,), (scores,)) = (list(ends.values()) for ends in (models[name].inputs, models[name].outputs))
    labels = zipfile.ZipFile(exported / f"student_{name}.tflite").read("labels.txt").decode().splitlines()
    assert image.shape == (1, 8, 8, 1)
    assert scores.shape == (1, len(labels))
    assert dtypes(models[name]) == {name}
    assert {tensor.is_quantized for tensor in (image, scores)} == {name == "int8"}


@pytest.mark.parametrize("path", CODE)
def test_the_normalization_is_that_of_the_default_recipe(examples, path):
    """Pixels of 0 and 255 become the ends of `data.value_range`."""
    text = (examples / path).read_text()
    numbers = re.search(r"MEAN, STD = ([\d.]+), ([\d.]+)", text)
    found = numbers.groups() if numbers else re.findall(r"(?i)\b(?:mean|std)(?:: Float)? = ([\d.]+)", text)
    mean, std = map(float, found)
    low, high = recipes.load().data.value_range
    assert ((0 - mean) / std, (255 - mean) / std) == (low, high)


def test_every_file_in_the_examples_is_exported(examples, exported):
    known = {f"student_{name}" for name in litert.FORMATS}
    for path in examples.rglob("*.*"):
        assert set(re.findall(r"student_\w+", path.read_text())) <= known, path
        if path.suffix in (".kt", ".swift", ".py"):
            assert "labels.txt" in path.read_text() or 'forResource: "labels", withExtension: "txt"' in path.read_text()


def test_android_handles_the_types_of_both_files(examples, models):
    text = (examples / "android" / "Classifier.kt").read_text()
    for function in ("write", "read"):
        body = text[text.index(f"ByteBuffer.{function}(") :]
        handled = set(re.findall(r"DataType\.(\w+) ->", body[: body.index("\n}")]))
        assert handled == {dtype.upper() for model in models.values() for dtype in dtypes(model)}
    assert not re.search(r"scale\w* = [\d.]+|zeroPoint\w* = \d+", text)  # read from the tensor


def test_ios_takes_the_file_with_float_ends(examples, models):
    """TensorFlowLiteSwift has no int8 in `Tensor.DataType`."""
    (name,) = re.findall(r'"student_(\w+)"', (examples / "ios" / "Classifier.swift").read_text())
    assert dtypes(models[name]) == {"float32"}


@pytest.mark.parametrize("name", FORMATS)
def test_the_microcontroller_uses_names_that_are_generated(examples, exported, tmp_path, name):
    sources = microcontroller_sources(exported / f"student_{name}.tflite", tmp_path)
    generated = "\n".join(path.read_text() for path in sources.files)
    used = "".join(path.read_text() for path in (examples / "microcontroller").iterdir())
    names = set(re.findall(r"model::(\w+)", used))
    assert {"AddOperators", "Resolver", "kArenaBytes", "kData", "kInputMean", "kInputStd", "kLabels"} <= names
    assert all(re.search(rf"\b{one}\b", generated) for one in names)
    assert {f'"{path.name}"' for path in sources.files if path.suffix == ".h"} <= set(re.findall(r'"[\w.]+"', used))
    normalization = re.findall(r"kInput(?:Mean|Std)\[\] = (.*);", generated)
    assert normalization == ["{0.0f}", "{16.0f}"]  # the raw digits are 0..16


@pytest.mark.parametrize("folder", ["android", "ios", "microcontroller", "raspberry_pi"])
def test_every_example_says_in_short_what_to_do_and_whether_it_was_run(examples, folder):
    lines = (examples / folder / "README.md").read_text().splitlines()
    assert len(lines) <= 40
    assert re.search(r"was not (compiled|run)", " ".join(lines))
