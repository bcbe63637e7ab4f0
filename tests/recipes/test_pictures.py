"""The pictures of a finished report show the right labels, bars, pixels and counts."""

import base64
import io
import re

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from keras_kd import data, evaluation
from keras_kd.data.splits import Split
from keras_kd.evaluation import plots
from keras_kd.recipes.shown_examples import soft_target_examples

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


def test_the_confusion_matrix_shows_the_counts_of_the_shipped_file(finished):
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    predicted = evaluation.TFLiteRunner(folder / "student_int8.tflite").predict(x).argmax(1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y, predicted), 1)
    assert plots.confusion_matrix(counts, report.class_names) in section(folder, "confusion")
