"""The user's view of `keras-kd`: standard output, standard error and the exit code."""

import errno
import re
from pathlib import Path

import pytest
import yaml

import keras_kd as kd
from keras_kd import interruption
from keras_kd.errors import ExportError, RecipeError
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.rows import ModelRow

CHATTER = ("Traceback", "tensorflow", "cuda", "oneDNN", "rebuild TensorFlow", "E0000", "I0000", "WARNING")
MODULE = """
import keras

def dense(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
"""


@pytest.fixture
def started(monkeypatch):
    """Collects the recipes passed to `run`, which is replaced, so nothing runs."""
    recipes = []
    report = Report(
        title="Nothing",
        rows=[ModelRow("teacher", "teacher", "teacher", 1, {"accuracy": 0.5, "macro_f1": 0.5})],
        test_size=10,
        class_names=["a", "b"],
    )
    monkeypatch.setattr(kd.recipes, "run", lambda recipe, console, overwrite: recipes.append(recipe) or report)
    return recipes


def words(text):
    """A message without the line breaks of a narrow terminal."""
    return " ".join(text.split())


def test_version(invoke):
    result = invoke("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{kd.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--help"], ["run", "init", "--version", "distill"]),
        (["run", "--help"], ["--set", "KEY=VALUE", "student.epochs=5", "--output-dir", "Default: the digits"]),
        (["init", "--help"], ["--force", "The file to write."]),
        (["inspect", "--help"], ["FILE", "--no-operators", "--json", "--svg"]),
        (["compress", "--help"], ["MODEL", "--data", "--steps", "--teacher", "--set", "--overwrite"]),
    ],
)
def test_help(invoke, arguments, parts):
    result = invoke(*arguments)
    assert result.exit_code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    for part in parts:
        assert part in plain


def test_help_is_shown_without_a_command(invoke):
    result = invoke()
    assert "init" in result.output and "run" in result.output


@pytest.mark.parametrize(
    "arguments", [["walk"], ["run", "--sett", "a=1"], ["run", "a.yaml", "b.yaml"], ["init"]], ids=" ".join
)
def test_an_invalid_command_line_is_a_usage_error(invoke, arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr and result.stdout == ""


# init


def test_init_writes_the_default_recipe(invoke, tmp_path, started):
    result = invoke("init", "mine.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Wrote mine.yaml. Run it with: keras-kd run mine.yaml\n"
    text = (tmp_path / "mine.yaml").read_text("utf-8")
    assert text == kd.recipes.default_text()
    assert text.count("#") > 20
    assert kd.recipes.load("mine.yaml") == kd.recipes.load()
    invoke("run")
    invoke("run", "mine.yaml")
    assert started[0] == started[1] == kd.recipes.load()


def test_init_quotes_the_path_in_the_command(invoke):
    assert invoke("init", "my recipé.yaml").stdout.endswith("keras-kd run 'my recipé.yaml'\n")


def test_init_overwrites_only_with_force(invoke, tmp_path):
    (tmp_path / "mine.yaml").write_text("precious")
    result = invoke("init", "mine.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "mine.yaml already exists; use --force to overwrite it.\n"
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert invoke("init", "mine.yaml", "--force").exit_code == 0
    assert (tmp_path / "mine.yaml").read_text("utf-8") == kd.recipes.default_text()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none/mine.yaml", "none/mine.yaml cannot be written: No such file or directory.\n"),
        ("folder", "folder cannot be written: Is a directory.\n"),
        ("x" * 300 + ".yaml", ".yaml cannot be written: File name too long.\n"),
    ],
)
def test_init_reports_an_unwritable_path(invoke, tmp_path, path, message):
    (tmp_path / "folder").mkdir()
    result = invoke("init", path, "--force")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(message)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


# run


def test_run_reads_recipe_and_options(invoke, started, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(kd.recipes.load().model_dump(mode="json") | {"seed": 7}))
    result = invoke("run", "mine.yaml", "--set", "student.epochs=5", "--set", "name=x", "--output-dir", "there")
    assert result.exit_code == 0
    (recipe,) = started
    assert (recipe.seed, recipe.student.epochs, recipe.name, recipe.folder) == (7, 5, "x", Path("there"))
    assert "Nothing" in result.stdout
    assert "Files: there    Report: there/report.html" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["none.yaml"], ["Cannot read the recipe", "none.yaml", "keras-kd init recipe.yaml"]),
        (["--set", "student.epoch=5"], ["student.epoch: unknown key.", "Did you mean 'epochs'?"]),
        (["--set", "student.epochs=[red]x[/red]"], ["student.epochs"]),
        (["--set", "student.optimizer='[red]'"], ["student.optimizer:", "[red]"]),
        (["--set", "student.model=digits_studnet"], ["student.model: Unknown model.", "digits_student"]),
        (
            ["--set", "student.model=here:three_classes"],
            ["student.model: The student's outputs do not fit", "(None, 10)"],
        ),
        (["--set", "data.source=npz:none.npz"], ["data: .npz file not found."]),
        (["--set", "few_labels.num_labels=5"], ["few_labels.num_labels: invalid value."]),
        (["--output-dir", "file/below"], ["output_dir: not a folder."]),
    ],
)
def test_an_invalid_recipe_gives_one_message_and_exit_code_2(invoke, tmp_path, arguments, parts):
    (tmp_path / "here.py").write_text(
        MODULE.replace("dense(", "three_classes(").replace("Dense(num_classes", "Dense(3")
    )
    (tmp_path / "file").write_text("")
    result = invoke("run", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("This recipe cannot be run.\n")
    for part in parts:
        assert part in words(result.stderr)
    assert not any(noise in result.stderr for noise in CHATTER)
    assert {file.name for file in tmp_path.iterdir()} - {"__pycache__"} == {"here.py", "file"}


def test_an_expected_error_during_the_run_gives_exit_code_1(invoke, monkeypatch):
    def fail(recipe, console, overwrite):
        raise ExportError("The converter refused the model.")

    monkeypatch.setattr(kd.recipes, "run", fail)
    result = invoke("run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert words(result.stderr) == "The run failed. The converter refused the model."


def test_an_unexpected_error_is_shown_with_its_traceback(invoke, monkeypatch):
    def fail(recipe, console, overwrite):
        raise ZeroDivisionError

    monkeypatch.setattr(kd.recipes, "run", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("run")


def test_the_hint_to_resume_appears_only_if_work_was_saved(invoke, monkeypatch, tmp_path):
    def fail(recipe, console, overwrite):
        raise ExportError("The converter refused the model.")

    monkeypatch.setattr(kd.recipes, "run", fail)
    (tmp_path / "there" / ".state").mkdir(parents=True)
    assert "the same command to resume" not in invoke("run", "--output-dir", "there").stderr
    (tmp_path / "there" / ".state" / "teacher.json").write_text("{}")
    assert words(invoke("run", "--output-dir", "there").stderr) == (
        "The run failed. The converter refused the model. "
        "Finished work was saved: after fixing this, run the same command to resume."
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/teacher.keras"), "No space left on device: run/teacher"),
        (OSError("[Errno 28] Can't write data (message = 'No space left on device')"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "run"), "Permission denied: run."),
    ],
)
def test_a_full_disk_gives_one_message(invoke, monkeypatch, error, message):
    def fail(recipe, console, overwrite):
        raise error

    monkeypatch.setattr(kd.recipes, "run", fail)
    result = invoke("run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in words(result.stderr) and words(result.stderr).startswith("The run failed. ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ImportError("half an import"), RecipeError("half a recipe")])
def test_any_error_after_ctrl_c_counts_as_an_interruption(invoke, monkeypatch, error):
    """Ctrl-C during an import may surface as a different exception."""

    def fail(recipe, console, overwrite):
        monkeypatch.setattr(interruption, "is_pressed", lambda: True)
        raise error

    monkeypatch.setattr(kd.recipes, "run", fail)
    result = invoke("run")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "\nInterrupted; nothing was finished yet.\n"


def test_compress_builds_a_recipe(invoke, started, tmp_path):
    (tmp_path / "net.keras").write_bytes(b"read when the recipe is checked")
    arguments = ["compress", "net.keras", "--data", "digits", "--steps", "pruning:sparsity=0.8,epochs=2"]
    result = invoke(*arguments, "--steps", "clustering:epochs=1", "--set", "student.batch_size=32")
    assert result.exit_code == 0 and "Files: saved_models/net-compressed" in words(result.stdout)
    (recipe,) = started
    assert [(step.name, step.epochs) for step in recipe.compress] == [("pruning", 2), ("clustering", 1)]
    assert (recipe.student.epochs, recipe.student.batch_size, recipe.teacher.model) == (None, 32, "net.keras")


def test_compress_needs_a_trained_model(invoke, started):
    result = invoke("compress", "none.keras", "--data", "digits", "--steps", "pruning:sparsity=0.8,epochs=2")
    assert result.exit_code == 2 and "MODEL: no such file" in words(result.stderr) and not started
