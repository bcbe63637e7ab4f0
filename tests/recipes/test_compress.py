"""Stages that compress the distilled student."""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from keras_kd import compression, errors
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.stages import training

TWO = 'compress=[{name: pruning, sparsity: 0.5, epochs: 1}, {name: pruning, pattern: "2:4", sparsity: 0.8, epochs: 1}]'


THREE = TWO.replace("}]", "}, {name: clustering, clusters: 6, epochs: 1}]")


def zeros(file):
    model = keras.models.load_model(file)
    return {w.path: float(np.mean(w.numpy() == 0)) for w in model.weights if w.path.endswith("kernel")}


def test_each_technique_is_a_row_and_the_last_one_is_exported(run_recipe, tmp_path):
    folder = tmp_path / "run"
    report, said = run_recipe(folder, THREE)
    rows = {row.id: row for row in report.rows}
    assert rows["compressed_1"].title == "pruned 50%" and rows["compressed_2"].title == "pruned 80%, 2:4"
    assert rows["compressed_1"].derived_from == "distilled" and rows["compressed_2"].derived_from == "compressed_1"
    exported = [row for row in report.rows if row.role is Role.EXPORTED]
    assert exported and all(row.derived_from == "compressed_3" for row in exported)
    assert zeros(folder / "compressed_1.keras") == pytest.approx(
        dict.fromkeys(zeros(folder / "student.keras"), 0.5), abs=0.02
    )
    assert zeros(folder / "compressed_2.keras") == pytest.approx(
        dict.fromkeys(zeros(folder / "student.keras"), 0.8), abs=0.02
    )

    assert rows["compressed_3"].title == "6 clusters"
    pruned, clustered = (keras.models.load_model(folder / f"compressed_{number}.keras") for number in (2, 3))
    for before, after in zip(pruned.weights, clustered.weights, strict=True):
        if after.path.endswith("kernel"):
            assert len(np.unique(after.numpy())) <= 6 and (after.numpy()[before.numpy() == 0] == 0).all()

    _, said = run_recipe(folder, THREE)
    for file in ("compressed_1.keras", "compressed_2.keras", "compressed_3.keras"):
        assert f"{file}, trained before with these settings" in said


CHANNELS = (
    "compress=[{name: channel_pruning, operations: 0.6, epochs: 1}, {name: pruning, sparsity: 0.5, epochs: 1}]",
    "distillation.losses=[soft_targets, {name: hint, teacher: hidden, student: hidden}]",
    "teacher.model=example_models:named_teacher",
    "student.model=example_models:named_student",
    "cache={}",
)


@pytest.mark.filterwarnings("ignore:Projectors")
@pytest.mark.usefixtures("eager")
def test_channels_leave_and_the_next_technique_continues_from_the_smaller_model(start_recipe, tmp_path):
    """Under a loss that reads the layer whose channels leave, with a teacher from the cache."""
    folder = tmp_path / "run"
    artifacts = start_recipe(folder, *CHANNELS).run()
    assert artifacts["compressed_1"].title == "channels to 60% of operations"
    files = [folder / name for name in ("student.keras", "compressed_1.keras", "compressed_2.keras")]
    student, small, sparse = map(keras.models.load_model, files)
    sizes = [compression.operations(model) for model in (student, small, sparse)]
    assert sizes[1] <= 0.6 * sizes[0] and sizes[2] == sizes[1]
    assert small.get_layer("hidden").units < student.get_layer("hidden").units
    assert {type(layer).__module__.split(".")[0] for layer in small.layers} == {"keras"}
    assert set(zeros(files[2]).values()) == {0.5}


def test_interrupted_while_pruning(assert_resumes):
    """Masks and the step of the schedule are restored; nothing depends on what ran before in the process."""
    pruning = "compress=[{name: pruning, sparsity: 0.8, epochs: 3}]"
    assert_resumes("compressed_1", "compressed_1.keras", pruning, roles=(Role.TEACHER, Role.DISTILLED, Role.MODEL))


@pytest.mark.long
def test_killed_in_each_technique(start, start_recipe, make_recipe, tmp_path, monkeypatch):
    """Masks, ranges and frozen statistics after SIGKILL in the middle of each training are those of a whole run."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    wanted = (Role.TEACHER, Role.DISTILLED, Role.MODEL)
    two = "compress=[{name: pruning, sparsity: 0.8, epochs: 3}, {name: quantization_aware, epochs: 3}]"
    start_recipe(tmp_path / "whole", two).run(*wanted)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(make_recipe(tmp_path / "killed", two).model_dump(mode="json")))
    script = Path(__file__).with_name("moments.py")
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for stage in ("compressed_1", "compressed_2"):
        done = start(sys.executable, script, "in_an_epoch", stage, "run", file, env=os.environ | {"PYTHONPATH": path})
        assert done.wait().returncode == -signal.SIGKILL, done.stderr
        assert not (tmp_path / "killed" / f"{stage}.keras").exists()
    start_recipe(tmp_path / "killed", two).run(*wanted)
    for name in ("compressed_1.keras", "compressed_2.keras"):
        whole, killed = (keras.models.load_model(tmp_path / run / name) for run in ("whole", "killed"))
        for one, other in zip(whole.weights, killed.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), one.path)


def test_a_technique_depends_on_the_ones_before_it(start_recipe, tmp_path):
    def keys(*overrides):
        return {stage.id: stage.key() for stage in start_recipe(tmp_path / "run", *overrides).plan.stages}

    before = keys(TWO)
    after = keys(TWO.replace("sparsity: 0.8", "sparsity: 0.9"))
    changed = {id for id in before if before[id] != after[id]}
    assert changed == {"compressed_2", "export_float32", "export_int8", "measurements", "report"}


@pytest.mark.parametrize(
    "compress, message",
    [
        ("[{name: pruning, epochs: 1}]", "compress.0: 'sparsity' is missing"),
        ("[{name: pruning, epochs: 1, sparsity: 1.5}]", "compress.0.sparsity"),
        ("[{name: pruning, epochs: 1, sparsity: {dense: 2.0}}]", "compress.0.sparsity: invalid value. Received"),
        ("[{name: pruning, epochs: 1, sparsity: {none: 0.5}}]", "compress.0: 'sparsity' names a layer"),
        ("[{name: pruning, epochs: 1, sparsity: 0.2, pattern: '2:4'}]", "compress.0: Invalid 'sparsity'"),
        ("[{name: pruning, epochs: 1, sparsity: 0.5, pattern: round}]", "compress.0: Unknown 'pattern'"),
        ("[{name: pruning, epochs: 1, sparsity: 0.5, pattern: 99x99}]", "compress.0: No layer"),
        ("[{name: prooning, epochs: 1}]", "compress.0.name"),
        ("[{epochs: 1, sparsity: 0.5}]", "compress.0.name"),
        ("[pruning]", "compress.0: invalid value"),
        ("[{name: clustering, epochs: 1, clusters: 1}]", "compress.0.clusters"),
        (
            "[{name: clustering, epochs: 1, sparsity: 0.5}]",
            "compress.0.sparsity: unknown key. Expected: one of clusters",
        ),
        ("[{name: clustering, epochs: 1, clusters: 60000}]", "compress.0: No layer"),
        ("{name: pruning, epochs: 1}", "compress"),
        ("[{name: channel_pruning, epochs: 1}]", "compress.0: Channel pruning takes one target"),
        ("[{name: channel_pruning, epochs: 1, operations: 1.5}]", "compress.0.operations"),
        ("[{name: channel_pruning, epochs: 1, operations: 0.001}]", "compress.0: Channel pruning cannot"),
        (
            "[{name: pruning, epochs: 1, sparsity: 0.5}, {name: channel_pruning, epochs: 1, operations: 0.5}]",
            "compress.1: the training after channel pruning does not keep what pruning did",
        ),
        (
            "[{name: quantization_aware, epochs: 1}, {name: clustering, epochs: 1}]",
            "compress.1: clustering would lose the rounding and the ranges of quantization_aware",
        ),
        (
            "[{name: channel_pruning, epochs: 1, operations: 0.5},"
            " {name: pruning, epochs: 1, sparsity: 0.5, pattern: 99x99}]",
            "compress.1: No layer",
        ),
    ],
)
def test_wrong_settings(start_recipe, tmp_path, compress, message):
    with pytest.raises(errors.RecipeError) as error:
        start_recipe(tmp_path / "run", f"compress={compress}")
    assert str(error.value).startswith(message)
