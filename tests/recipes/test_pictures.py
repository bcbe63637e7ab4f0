"""The pictures of a finished report show the right labels, bars, pixels and counts."""

import base64
import html
import io
import json
import re

import keras
import numpy as np
import pytest
import sklearn.datasets
import sklearn.metrics
from PIL import Image
from scipy.special import softmax

from keras_kd import data, evaluation
from keras_kd.data.sources.records import ArrayRecords, Scaling
from keras_kd.data.splits import Split
from keras_kd.evaluation import plots
from keras_kd.evaluation.comparison import Disagreements, Predictions, find_disagreements
from keras_kd.recipes.shown_examples import soft_target_examples, with_images

CAPTION, NAME, BAR = "9px", "9.5px", "8.5px"


def section(folder, name):
    page = (folder / "report.html").read_text()
    return re.search(rf'<section class="card" id="{name}">.*?</section>', page, re.DOTALL).group()


def drawn_examples(svg):
    """For each soft-target example: pixels in 0..1, label, bar names, and bar values."""
    examples = []
    image = r'<image xlink:href="data:image/png;base64,([^"]*)"([^>]*)>'
    pattern = image + r'|<text style="font-size: ([\d.]+px)[^>]*>([^<]*)<'
    for png, attributes, size, text in re.findall(pattern, svg):
        if png:
            across, _, _, down, *_ = map(float, re.search(r"matrix\(([^)]*)\)", attributes).group(1).split())
            assert across > 0 and down > 0  # not flipped
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")) / 255
            examples.append({"pixels": pixels, CAPTION: [], NAME: [], BAR: []})
        elif size in examples[-1]:
            examples[-1][size].append(text)
    return examples


def normalized(image):
    return (image - image.min()) / (image.max() - image.min())


def test_soft_targets_show_the_pixels_the_label_and_the_probabilities_of_one_example(finished):
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    teacher = keras.models.load_model(folder / "teacher.keras", compile=False)
    logits = teacher.predict(x, verbose=0).astype("float64")
    pixels = np.array([normalized(image[..., 0]) for image in x])
    examples = drawn_examples(section(folder, "soft_targets"))
    assert len(examples) == len(report.soft_targets["examples"]) == 4
    for example in examples:
        (index,) = np.flatnonzero(np.abs(pixels - example["pixels"]).max(axis=(1, 2)) < 0.01)
        assert example[CAPTION] == [report.class_names[y[index]]]
        likeliest = np.argsort(-logits[index])[:6]
        assert example[NAME] == [report.class_names[number] for number in likeliest]
        expected = np.concatenate([softmax(logits[index] / t)[likeliest] for t in report.soft_targets["temperatures"]])
        np.testing.assert_allclose(np.array(example[BAR], float), 100 * expected, atol=0.06)


class Reordering(Split):
    """Returns the rows of a subset in stored order instead of the requested one, as a sequential source may."""

    def subset(self, indices, name):
        return super().subset(np.sort(indices), name)


@pytest.mark.parametrize("kind", [Split, Reordering])
def test_examples_are_whole_whatever_the_order_of_a_subset(kind):
    test = data.open_source("digits").test
    split = kind(test.name, test.records, test.scaling)
    x, y = split.arrays()
    outputs = np.random.default_rng(0).normal(size=(len(x), 10))
    examples = soft_target_examples(outputs, split)
    entropies = []
    for example in examples:
        (index,) = np.flatnonzero((outputs == example["logits"]).all(axis=1))
        np.testing.assert_allclose(example["image"], normalized(x[index]), atol=1e-4)
        assert example["label"] == y[index]
        p = softmax(outputs[index] / 4)
        entropies.append(-np.sum(p * np.log(p)))
    assert entropies == sorted(entropies, reverse=True)
    assert [e["label"] for e in examples] != sorted(e["label"] for e in examples)


def gallery(folder):
    """The pixels, the alternative text and the lines of the caption of each disagreement in the page."""
    pattern = r'<img src="data:image/png;base64,([^"]*)" alt="([^"]*)">\s*<figcaption>(.*?)</figcaption>'
    found = []
    for png, alt, caption in re.findall(pattern, section(folder, "disagreements"), re.DOTALL):
        lines = [re.sub(r"<[^>]*>", "", line).strip() for line in caption.split("<br>")]
        found.append((np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), html.unescape(alt), lines))
    return found


def outputs(folder, x):
    """The softmax of the teacher's and of the int8 file's logits, computed here."""
    teacher = keras.models.load_model(folder / "teacher.keras", compile=False)
    logits = teacher.predict(x, verbose=0), evaluation.TFLiteRunner(folder / "student_int8.tflite").predict(x)
    return [softmax(values.astype("float64"), axis=1) for values in logits]


def test_the_disagreements_are_the_pixels_and_labels_of_the_test_examples(finished):
    """From the stored images of scikit-learn, without the pipeline that the run read them through."""
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    stored = sklearn.datasets.load_digits()
    shades = {
        tuple(np.round(255 * image / 16).astype(int).ravel()): label
        for image, label in zip(stored.images, stored.target, strict=True)
    }
    teacher, file = outputs(folder, x)
    differ = np.flatnonzero(teacher.argmax(1) != file.argmax(1))
    sure = np.minimum(teacher.max(1), file.max(1))
    shown, kept = gallery(folder), json.loads((folder / "report.json").read_text())["disagreements"]
    assert len(shown) == len(kept["examples"]) == min(24, len(differ)) > 0
    assert (kept["count"], kept["file"]) == (len(differ), "export_int8")
    for (pixels, alt, lines), example in zip(shown, kept["examples"], strict=True):
        index, label = example["index"], y[example["index"]]
        np.testing.assert_array_equal(pixels, np.round(255 * x[index, ..., 0]))
        assert shades[tuple(pixels.ravel())] == label == example["label"]
        one, other = int(teacher[index].argmax()), int(file[index].argmax())
        assert (example["teacher"], example["file"]) == (one, other) and one != other
        assert alt == f"Test example {index}, of class {label}"
        verdicts = ["right" if number == label else "wrong" for number in (one, other)]
        assert lines == [
            f"{label} (example {index})",
            f"teacher: {one} ({100 * teacher[index, one]:.0f}%), {verdicts[0]}",
            f"file: {other} ({100 * file[index, other]:.0f}%), {verdicts[1]}",
        ]
    order = [sure[example["index"]] for example in kept["examples"]]
    assert order == sorted(order, reverse=True)
    assert set(differ[sure[differ] > order[-1] + 1e-6]) <= {example["index"] for example in kept["examples"]}
    assert report.disagreements.teacher_right == (teacher.argmax(1) == y)[differ].sum()


def test_the_classes_and_the_reliability_are_those_of_the_files(finished):
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    teacher, file = outputs(folder, x)
    for id, shares in {"teacher": teacher, "export_int8": file}.items():
        right = np.diag(sklearn.metrics.confusion_matrix(y, shares.argmax(1)))
        assert report.classes.right[id] == right.tolist()
        error = evaluation.expected_calibration_error(shares, y, from_logits=False)
        title = next(row.title for row in report.rows if row.id == id)
        assert f"{title} (ECE {error:.3f})" in section(folder, "reliability")
    assert report.classes.counts == np.bincount(y).tolist()
    assert (report.classes.student, set(report.reliability)) == (
        "distilled",
        {"teacher", "export_float32", "export_int8"},
    )
    assert plots.class_changes(
        report.classes.changes(), report.class_names, file="distilled, int8 TFLite", student="student distilled"
    ) in section(folder, "classes")


def scaled_split(shape, kind, value_range, seed=0):
    """A test split of random images, stored as uint8 and scaled, or as floats that are not."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, *shape), np.uint8)
    stored = pixels if kind == "uint8" else ((pixels / 255) * (value_range[1] - value_range[0]) + value_range[0])
    stored = stored if kind == "uint8" else stored.astype(np.float32)
    labels = np.arange(40) % 4
    scaling = Scaling.to_range(255, value_range) if kind == "uint8" else Scaling()
    return pixels, Split("test", ArrayRecords(lambda: stored, labels, shape=shape, dtype=stored.dtype), scaling)


def some_disagreements(labels):
    """Disagreements on 20 of 40 examples, whose order by confidence is not that of their indices."""
    generator = np.random.default_rng(3)
    classes, sure = np.arange(40) % 4, generator.random((2, 40))
    other = np.where(generator.permutation(40) < 20, (classes + 1) % 4, classes)
    models = {"teacher": Predictions(classes, sure[0]), "file": Predictions(other, sure[1])}
    return find_disagreements(models, labels, teacher="teacher", file="file")


def read(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3)])
@pytest.mark.parametrize("reading", [Split, Reordering])
def test_images_come_back_from_any_value_range_and_order(shape, kind, value_range, reading):
    pixels, split = scaled_split(shape, kind, value_range)
    split = reading(split.name, split.records, split.scaling)
    found = with_images(some_disagreements(split.labels()), split, value_range)
    indices = [example.index for example in found.examples]
    assert len(indices) == 20 and indices != sorted(indices)
    assert found.shown_range == list(value_range)
    for example in found.examples:
        np.testing.assert_array_equal(
            read(example.image), pixels[example.index].squeeze(-1) if shape[-1] == 1 else pixels[example.index]
        )
        assert example.label == split.labels()[example.index]


def test_standardized_images_are_drawn_from_their_lowest_to_their_highest_value():
    pixels, split = scaled_split((6, 5, 3), "float32", (-1.8, 2.2))
    found = with_images(some_disagreements(split.labels()), split, (0.0, 1.0))
    assert found.shown_range == pytest.approx([-1.8, 2.2], abs=0.02)
    for example in found.examples:
        np.testing.assert_allclose(read(example.image), pixels[example.index], atol=2)


@pytest.mark.parametrize("shape", [(20,), (6, 5, 4), (6, 5)])
def test_examples_that_are_not_images_have_no_pictures(shape):
    _, split = scaled_split(shape, "float32", (0.0, 1.0))
    assert with_images(some_disagreements(split.labels()), split, (0.0, 1.0)) is None


def test_without_disagreements_no_image_is_read():
    _, split = scaled_split((6, 5, 1), "uint8", (0.0, 1.0))
    none = Disagreements("teacher", "file", 0, 0, 0, [])
    assert with_images(none, split, (0.0, 1.0)) == none


def test_the_confusion_matrix_shows_the_counts_of_the_shipped_file(finished):
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    predicted = evaluation.TFLiteRunner(folder / "student_int8.tflite").predict(x).argmax(1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y, predicted), 1)
    assert plots.confusion_matrix(counts, report.class_names) in section(folder, "confusion")
