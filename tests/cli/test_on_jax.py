"""`KERAS_BACKEND=jax keras-kd run`: the same files as on TensorFlow, which exports, and the same accuracies."""

import json
import os
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from keras_kd import data, recipes

COMMAND = Path(sys.executable).with_name("keras-kd")
README = Path(__file__).parents[2] / "README.md"
L = keras.layers


def model(width):
    """Without dropout, whose random numbers differ between the backends."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Flatten(),
            L.Dense(width, use_bias=False),
            L.BatchNormalization(momentum=0.9),
            L.ReLU(),
            L.Dense(10),
        ]
    )


@pytest.fixture
def recipe(tmp_path):
    """A recipe whose teacher is trained, and whose students start from the weights of a file."""
    teacher = model(24)
    teacher.compile(keras.optimizers.Adam(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(*data.open_source("digits").train.arrays(), epochs=3, verbose=0)
    teacher.save(tmp_path / "teacher.keras")
    model(8).save(tmp_path / "student.keras")
    sections = {
        "data": {"source": "digits"},
        "teacher": {"model": str(tmp_path / "teacher.keras")},
        "student": {"model": str(tmp_path / "student.keras"), "epochs": 2, "learning_rate": 0.01},
        "cache": {"views": 1},
        "few_labels": None,
        "export": {"formats": ["float32"]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sections))
    return tmp_path / "recipe.yaml"


def run_on_jax(start, folder, *arguments):
    done = start(COMMAND, "run", *arguments, f"--output-dir={folder}", env=os.environ | {"KERAS_BACKEND": "jax"}).wait()
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder):
    """The names of all files, without the checksum of the content in the name of a shard."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"\.[0-9a-f]{16}\.npy$", ".npy", name) for name in names}


def accuracies(folder):
    report = json.loads((folder / "report.json").read_text())
    return {row["title"]: row["values"]["accuracy"] for row in report["rows"]}


@pytest.mark.long
def test_a_small_recipe_ends_with_the_files_and_accuracies_of_tensorflow(start, recipe, tmp_path):
    printed = run_on_jax(start, tmp_path / "jax", recipe)
    recipes.run(recipes.load(recipe, [f"output_dir={tmp_path / 'tensorflow'}"]))
    assert files(tmp_path / "jax") == files(tmp_path / "tensorflow")
    found, expected = accuracies(tmp_path / "jax"), accuracies(tmp_path / "tensorflow")
    assert found == pytest.approx(expected, abs=0.006)  # two of 360 images
    assert all(f"{100 * accuracy:.1f}" in printed for accuracy in found.values())


NETS = """
import keras

def teacher(input_shape, num_classes, units=64):
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, "relu"), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *layers])

def student(input_shape, num_classes):
    return teacher(input_shape, num_classes, units=16)
"""


@pytest.fixture
def digits_twice(tmp_path):
    """A recipe whose student sees the digits, and whose teacher sees them turned and enlarged; its test examples."""
    source, arrays, large = data.open_source("digits"), {}, {}
    for name, split in (("train", source.train), ("val", source.validation), ("test", source.test)):
        arrays |= {f"x_{name}": split.arrays()[0], f"y_{name}": split.labels()}
        turned = np.rot90(arrays[f"x_{name}"], axes=(1, 2)).repeat(2, axis=1).repeat(2, axis=2)
        large |= {f"x_{name}": turned, f"y_{name}": split.labels()}
    np.savez(tmp_path / "small.npz", **arrays)
    np.savez(tmp_path / "large.npz", **large)
    (tmp_path / "nets.py").write_text(NETS)
    shared = {"learning_rate": 0.01, "epochs": 6}
    sections = {
        "data": {"source": f"npz:{tmp_path / 'small.npz'}", "teacher": {"source": f"npz:{tmp_path / 'large.npz'}"}},
        "augment": [{"name": "pad_and_crop", "pixels": 1}],
        "teacher": {"model": "nets:teacher", **shared},
        "student": {"model": "nets:student", **shared},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sections))
    return tmp_path / "recipe.yaml", {"teacher": large, "student": arrays}


@pytest.mark.long
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_teacher_with_inputs_of_its_own(start, digits_twice, tmp_path, backend):
    recipe, sides = digits_twice
    folder, environment = tmp_path / "run", os.environ | {"KERAS_BACKEND": backend}
    done = start(COMMAND, "run", recipe, f"--output-dir={folder}", env=environment, cwd=tmp_path).wait()
    assert done.returncode == 0, done.stderr
    found = accuracies(folder)
    for name, title in (("teacher", "teacher"), ("student", "student distilled")):
        model = keras.models.load_model(folder / f"{name}.keras", compile=False)
        predicted = model.predict(sides[name]["x_test"], verbose=0).argmax(-1)
        assert found[title] == pytest.approx((predicted == sides[name]["y_test"]).mean(), abs=0.003)
    assert found["teacher"] > 0.8 and found["student distilled"] > 0.5
    assert found["distilled, float32 TFLite"] == pytest.approx(found["student distilled"], abs=0.006)
    rows = json.loads((folder / "report.json").read_text())["rows"]
    assert all(row["latency_p50_ms"] for row in rows if row["title"] == "teacher")


MAIN_JOB = {"teacher.keras", "student.keras", "student_float32.tflite", "student_int8.tflite", "labels.txt"}
MAIN_JOB |= {
    "student_float32.md",
    "student_int8.md",
    "history.json",
    "report.json",
    "report.html",
    "teacher_diagnosis.json",
}
# The backends draw other initial weights from a seed: three standard deviations over seeds (benchmarks/digits_gain.py).
SPREAD = {"scratch, 100 labels": 3 * 0.0213}


@pytest.mark.long
def test_the_main_job_ends_with_the_files_and_accuracies_of_the_readme(start, tmp_path):
    run_on_jax(start, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_file()} - {"lock"} == MAIN_JOB
    table = README.read_text().partition("<!-- digits table -->")[2].partition("<!-- /digits table -->")[0]
    rows = re.findall(r"^\| ([^|]+) \| [\d,]+ .*?\| \**([\d.]+)\** \([\d.]+–[\d.]+\) \|", table, re.MULTILINE)
    expected = {title.strip(): float(accuracy) / 100 for title, accuracy in rows}
    assert len(expected) == 7
    for title, accuracy in accuracies(tmp_path / "run").items():
        assert accuracy == pytest.approx(expected[title], abs=SPREAD.get(title, 0.02)), title
