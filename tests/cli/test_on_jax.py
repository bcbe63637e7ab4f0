"""`KERAS_BACKEND=jax keras-kd run`: the same files as on TensorFlow, which exports, and the same accuracies."""

import json
import os
import re
import sys
from pathlib import Path

import keras
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
