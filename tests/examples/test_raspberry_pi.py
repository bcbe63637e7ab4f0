"""The Python example, run as a user runs it."""

import ast
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_kd import litert

PICTURES = range(0, 40, 4)


@pytest.fixture(scope="module")
def pictures(digits, tmp_path_factory):
    """Pictures of digits, with pixels of 0 to 255."""
    folder, (images, _) = tmp_path_factory.mktemp("pictures"), digits
    paths = {index: folder / f"digit {index}.png" for index in PICTURES}
    for index, path in paths.items():
        Image.fromarray(np.round(255 * images[index, ..., 0]).astype("uint8")).save(path)
    return paths


def classify(examples, *arguments):
    command = [sys.executable, str(examples / "raspberry_pi" / "classify.py"), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.findall(r"^(.*): (.*) \((-?[\d.]+)\)$", ran.stdout, flags=re.M)


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_it_agrees_with_litert_in_this_process(examples, exported, digits, pictures, name):
    path = exported / f"student_{name}.tflite"
    pixels = np.stack([np.asarray(Image.open(picture), np.float32) for picture in pictures.values()])
    (scores,) = litert.Model(path, num_threads=1).predict(pixels[..., None] / 255).values()
    found = classify(examples, path, *pictures.values())
    assert [file for file, _, _ in found] == [str(picture) for picture in pictures.values()]
    assert [label for _, label, _ in found] == [str(index) for index in scores.argmax(1)]
    step = next(iter(litert.Model(path, num_threads=1).outputs.values())).scale  # 0.0 in the float file
    np.testing.assert_allclose([float(score) for *_, score in found], scores.max(1), rtol=0, atol=step + 1e-3)
    assert np.mean(scores.argmax(1) == digits[1][list(PICTURES)]) > 0.7


def test_pictures_are_resized_and_made_gray(examples, exported, pictures, tmp_path):
    """Eight times the size, in color: the same label."""
    first = next(iter(pictures.values()))
    Image.open(first).convert("RGB").resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    path = exported / "student_int8.tflite"
    assert classify(examples, path, tmp_path / "large.png")[0][1] == classify(examples, path, first)[0][1]


def test_it_needs_three_packages(examples):
    tree = ast.parse((examples / "raspberry_pi" / "classify.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    packages = {module.split(".")[0] for module in modules} - sys.stdlib_module_names
    assert packages == {"ai_edge_litert", "numpy", "PIL"}
