"""A small recipe for each task, from an .npz file to the report: trained, distilled, exported, measured."""

import functools
import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from rich.console import Console

from keras_kd import evaluation, export, litert, recipes, tasks
from keras_kd.data import open_source
from keras_kd.errors import Notice, RecipeError
from keras_kd.evaluation.table import markdown_table
from keras_kd.recipes.task import gives_logits

N = 160
rng = np.random.default_rng(8)


def table():
    x = rng.normal(size=(N, 6)).astype(np.float32)
    return x, x @ rng.normal(size=(6, 3))


def regression():
    x, z = table()
    y = (z[:, :2] + 0.1 * rng.normal(size=(N, 2))).astype(np.float32)
    y[3, 1] = np.nan
    return x, y


def multi_label():
    x, z = table()
    y = (z > 0).astype(np.int8)
    y[5, 0] = -1
    return x, y


def classification():
    x, z = table()
    return x, z.argmax(-1)


def segmentation():
    masks = np.repeat(np.repeat(rng.integers(0, 3, (N, 2, 2)), 3, 1), 3, 2)
    x = (40 + 80 * masks[..., None] + rng.integers(0, 20, (N, 6, 6, 1))).astype(np.uint8)
    masks[:, 0, 0] = -1
    return x, masks


def token_classification():
    ids = rng.integers(1, 20, (N, 7))
    tags = ids % 4
    is_padding = np.arange(7) >= rng.integers(3, 8, (N, 1))
    return np.where(is_padding, 0, ids), np.where(is_padding, -1, tags)


MODELS = {
    "classification": ("table_teacher", "table_student"),
    "multi_label": ("table_teacher", "sigmoid_student"),
    "regression": ("table_teacher", "table_student"),
    "segmentation": ("pixel_teacher", "pixel_student"),
    "token_classification": ("token_teacher", "token_student"),
}
FEW_LABELS = {"regression", "token_classification"}  # missing labels are marked by NaN and by -1
WORDS = {
    "classification": ("examples", "Accuracy %"),
    "multi_label": ("examples", "Mean AP"),
    "regression": ("examples", "RMSE"),
    "segmentation": ("images", "Mean IoU %"),
    "token_classification": ("sentences", "Token accuracy %"),
}


@pytest.fixture(scope="module")
def finished_run(example_models, tmp_path_factory):
    """Runs the recipe of a task once; returns the folder, the report and the console output."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp(name)
        x, y = globals()[name]()
        np.savez(folder / "data.npz", x=x, y=y)
        training = {"learning_rate": 0.03, "batch_size": 16}
        teacher, student = (f"task_models:{model}" for model in MODELS[name])
        recipe = {
            "name": name,
            "output_dir": str(folder / "run"),
            "data": {"source": f"npz:{folder / 'data.npz'}"},
            "teacher": {"model": teacher, "epochs": 4, **training},
            "student": {"model": student, "epochs": 2, **training},
            "few_labels": {"num_labels": 30} if name in FEW_LABELS else None,
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        console = Console(file=io.StringIO(), width=300)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # about reading the logits before a sigmoid
            patch.setattr(export, "export_tflite", functools.partial(export.export_tflite, isolate=False))
            patch.setattr(export.Converter, "start", lambda converter: None)
            report = recipes.run(recipes.load(folder / "recipe.yaml"), console)
        return folder, report, console.file.getvalue()

    return run


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_of_the_task_runs_to_its_report(finished_run, name):
    folder, report, said = finished_run(name)
    task = tasks.get(name)
    assert f"data.task: {name}, inferred from the labels" in said
    rows = {row.id: row for row in report.rows}
    expected = {"teacher", "scratch", "distilled", "export_float32", "export_int8"}
    assert set(rows) == expected | ({"few_scratch", "few_distilled"} if name in FEW_LABELS else set())
    for row in rows.values():
        assert set(row.values) == {measure.name for measure in task.measures}
        assert all(value is not None for value in row.values.values())
    kept = json.loads((folder / "run" / "report.json").read_text())
    assert (kept["task"], kept["unit"]) == (name, WORDS[name][0])
    page, text = (folder / "run" / "report.html").read_text(), markdown_table(report)
    assert f"16 test {WORDS[name][0]}" in text and WORDS[name][1] in text.splitlines()[0]
    assert all(measure.title in page for measure in task.measures)
    assert "Traceback" not in page and "cannot be drawn" not in page
    assert (folder / "run" / "teacher_diagnosis.json").exists() == task.has_classes
    is_classification = name == "classification"
    assert (report.classes is not None) == bool(report.reliability) == is_classification
    assert report.disagreements is None  # of a table of numbers, without pictures
    shown = set(re.findall('<section class="card" id="([^"]*)"', page))
    assert {"size_accuracy", "latency_accuracy"} <= shown
    assert shown & {"classes", "reliability", "disagreements"} == (
        {"classes", "reliability"} if is_classification else set()
    )


def test_the_models_of_every_task_load_in_plain_keras(finished_run):
    """In one process that never imports this package, with the compile state that `load_model` restores by default."""
    files = [str(file) for name in MODELS for file in sorted((finished_run(name)[0] / "run").rglob("*.keras"))]
    assert len(files) >= 3 * len(MODELS)
    code = (
        "import sys, keras; [keras.models.load_model(file) for file in sys.argv[1:]]; print('keras_kd' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr[-2000:]


@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_those_of_the_files(finished_run, name):
    folder, report, _ = finished_run(name)
    source = open_source(f"npz:{folder / 'data.npz'}")
    x, y = source.test.arrays()
    student = keras.models.load_model(folder / "run" / "student.keras", compile=False)
    is_logits = gives_logits(student)
    outputs = {"distilled": student.predict(x, verbose=0)}
    for kind in ("float32", "int8"):
        runner = evaluation.TFLiteRunner(folder / "run" / f"student_{kind}.tflite")
        outputs[f"export_{kind}"] = runner.predict(x)
    rows = {row.id: row for row in report.rows}
    for id, values in outputs.items():
        expected = evaluation.measure(values, y, task=name, from_logits=is_logits).values
        assert rows[id].values == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(outputs["export_float32"], outputs["distilled"], atol=1e-4)


@pytest.mark.parametrize("name", ["regression", "segmentation", "token_classification", "multi_label"])
def test_the_training_improves_the_headline(finished_run, name):
    _, report, _ = finished_run(name)
    measure = tasks.get(name).headline
    rows = {row.id: row[measure.name] for row in report.rows}
    limits = {"regression": 1.2, "segmentation": 0.5, "token_classification": 0.6, "multi_label": 0.7}
    better = rows["teacher"] < limits[name] if not measure.higher_is_better else rows["teacher"] > limits[name]
    assert better, rows


def test_token_ids_stay_whole_in_the_file(finished_run):
    folder, *_ = finished_run("token_classification")
    for kind in ("float32", "int8"):
        (tensor,) = litert.Model(folder / "run" / f"student_{kind}.tflite").inputs.values()
        assert tensor.dtype == np.int32


def test_a_regression_has_an_interval_and_no_classes(finished_run):
    folder, report, _ = finished_run("regression")
    assert not len(report.confusion) and not report.soft_targets
    text = " ".join([*report.summary, markdown_table(report)])
    assert "A measured RMSE of" in text and "accura" not in text and "Agreement" not in text
    assert all(len(row.replicates) == min(20, report.test_size) for row in report.rows)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("segmentation", {"student": {"model": "task_models:image_student"}}, "student's outputs do not fit the task"),
        (
            "regression",
            {"student": {"model": "task_models:sigmoid_student"}},
            "last activation of the student",
        ),
        ("regression", {"cache": {"top_k": 1}}, "cache.top_k: the classes of the task are not exclusive"),
        ("regression", {"data": {"task": "classification"}}, "data: .*not one-hot"),
        ("regression", {"student": {"model": "digits_student"}}, "student.model: The reference model 'digits_student'"),
        ("regression", {"data": {"task": "ranking"}}, "data: Unknown task. Received: 'ranking'"),
        ("segmentation", {"augment": ["mixup"]}, "augment: Mixup computes shares of classes"),
        (
            "token_classification",
            {"augment": ["gaussian_noise"]},
            "augment: GaussianNoise does not apply to integer inputs",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_training(finished_run, name, changes, message):
    folder, *_ = finished_run(name)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    for key, value in changes.items():
        recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
    recipe["output_dir"] = str(folder / f"run {message[:12]}")
    (folder / "other.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(RecipeError, match=message):
        recipes.run(recipes.load(folder / "other.yaml"), Console(file=io.StringIO()))
    assert not Path(recipe["output_dir"]).exists()
