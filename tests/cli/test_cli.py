"""`keras-kd` as people meet it: what it prints where, and the exit code."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import keras_kd as kd
from keras_kd.cli.main import app
from keras_kd.errors import ExportError
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.summary import ModelRow

COMMAND = str(Path(sys.executable).with_name("keras-kd"))
CHATTER = ("Traceback", "tensorflow", "cuda", "oneDNN", "rebuild TensorFlow", "E0000", "I0000", "WARNING")
MODULE = """
import keras

def dense(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
"""


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def started(monkeypatch):
    """The recipes that would have been run; none is."""
    recipes = []
    report = Report(title="Nothing", rows=[ModelRow("teacher", 1, 0.5, 0.5)], test_size=10, class_names=["a", "b"])
    monkeypatch.setattr(kd.recipes, "run", lambda recipe, console: recipes.append(recipe) or report)
    return recipes


def words(text):
    """A message without the line breaks that a narrow terminal makes."""
    return " ".join(text.split())


def test_version(invoke):
    result = invoke("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{kd.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--help"], ["run", "init", "--version", "distil"]),
        (["run", "--help"], ["--set", "KEY=VALUE", "student.epochs=5", "--output-dir", "Default: the digits"]),
        (["init", "--help"], ["--force", "The file to write."]),
    ],
)
def test_help(invoke, arguments, parts):
    result = invoke(*arguments)
    assert result.exit_code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    for part in parts:
        assert part in plain


def test_without_a_command_the_help_is_shown(invoke):
    result = invoke()
    assert "init" in result.output and "run" in result.output


@pytest.mark.parametrize(
    "arguments", [["walk"], ["run", "--sett", "a=1"], ["run", "a.yaml", "b.yaml"], ["init"]], ids=" ".join
)
def test_a_wrong_command_line(invoke, arguments):
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


def test_init_overwrites_only_what_it_is_told_to(invoke, tmp_path):
    (tmp_path / "mine.yaml").write_text("precious")
    result = invoke("init", "mine.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "mine.yaml is there already; --force overwrites it.\n"
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
def test_init_where_nothing_can_be_written(invoke, tmp_path, path, message):
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
        (["--set", "student.model=digits_studnet"], ["student.model: unknown model.", "digits_student"]),
        (
            ["--set", "student.model=here:three_classes"],
            ["student.model: The student's outputs do not fit", "10 classes"],
        ),
        (["--set", "data.source=npz:none.npz"], ["data: There is no such .npz file."]),
        (["--set", "few_labels.num_labels=5"], ["few_labels.num_labels: not usable."]),
        (["--output-dir", "file/below"], ["output_dir: this is no folder."]),
    ],
)
def test_a_bad_recipe_is_one_message_and_exit_code_2(invoke, tmp_path, arguments, parts):
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


def test_a_failure_of_ours_during_the_run_is_exit_code_1(invoke, monkeypatch):
    def fail(recipe, console):
        raise ExportError("The converter refused the model.")

    monkeypatch.setattr(kd.recipes, "run", fail)
    result = invoke("run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        words(result.stderr) == "The run failed; the same command goes on from here. The converter refused the model."
    )


def test_an_error_that_nobody_expected_is_shown_whole(invoke, monkeypatch):
    def fail(recipe, console):
        raise ZeroDivisionError

    monkeypatch.setattr(kd.recipes, "run", fail)
    with pytest.raises(ZeroDivisionError):
        invoke("run")


# In a process of its own


def call(*arguments, cwd, **settings):
    return subprocess.run([COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False, **settings)


def test_a_bad_recipe_in_a_terminal(tmp_path):
    """The user's own module is found in the working directory; TensorFlow's chatter is held back."""
    (tmp_path / "own.py").write_text(MODULE)
    result = call("run", "--set", "student.model=own:dens", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert words(result.stderr) == (
        "This recipe cannot be run. student.model: AttributeError: module 'own' has no attribute 'dens'. "
        "Received: own:dens. Expected: module:function, importable from here."
    )
    assert {file.name for file in tmp_path.iterdir()} <= {"own.py", "__pycache__"}


def interrupt(*arguments, cwd, stamp):
    """Presses Ctrl-C two seconds after the stage that leaves `stamp`; the exit code, and what was printed."""
    # A shell starts what it runs in the background with Ctrl-C ignored, and the tests may run there.
    settings = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    process = subprocess.Popen(
        [COMMAND, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )
    deadline = time.monotonic() + 300
    while not (cwd / stamp).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, output, errors


def own_models(folder):
    """The arguments of a small run with models of the user's own."""
    (folder / "own.py").write_text(MODULE)
    settings = ["teacher.model=own:dense", "student.model=own:dense", "teacher.epochs=1", "few_labels=null"]
    return ["run", "--output-dir=run", *(f"--set={setting}" for setting in settings)]


def test_ctrl_c(tmp_path):
    """While the student is trained."""
    command = [*own_models(tmp_path), "--set=student.epochs=100000"]
    code, output, errors = interrupt(*command, cwd=tmp_path, stamp="run/.state/teacher.json")
    assert (code, errors.strip()) == (130, "Interrupted; the same command goes on from here.")
    assert not any(noise in output for noise in CHATTER)
    names = {file.name for file in (tmp_path / "run").iterdir()} - {"teacher_diagnosis.json"}  # written or not yet
    assert names == {".state", "teacher.keras"}


@pytest.mark.long
def test_a_whole_run_after_ctrl_c(tmp_path):
    """The teacher is not trained again, and what is printed is for people."""
    command = own_models(tmp_path)
    interrupt(*command, "--set=student.epochs=100000", cwd=tmp_path, stamp="run/.state/teacher.json")
    before = (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns
    result = call(*command, "--set=student.epochs=1", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert not any(noise in result.stdout for noise in CHATTER)
    assert "teacher: loaded run/teacher.keras, trained before with these settings." in result.stdout
    assert "digits: from teacher to phone" in result.stdout
    assert "Files: run    Report: run/report.html" in result.stdout
    assert (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns == before
    names = {"teacher.keras", "student.keras", "student_float32.tflite", "student_int8.tflite", "labels.txt"}
    names |= {"history.json", "report.json", "report.html", "teacher_diagnosis.json", ".state"}
    assert {file.name for file in (tmp_path / "run").iterdir()} == names
