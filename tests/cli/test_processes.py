"""`keras-kd` in its own process: what it loads, what it prints where, and how Ctrl-C ends it."""

import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("keras-kd")
CHATTER = ("Traceback", "tensorflow", "cuda", "oneDNN", "E0000", "I0000", "WARNING", "Exception", "interpreter state")
MODULE = """
import keras

def dense(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(num_classes)])
"""
RESUMES = "\nInterrupted; run the same command to resume.\n"


def words(text):
    return " ".join(text.split())


@pytest.fixture
def own_models(tmp_path):
    """Arguments for a small run with user-defined models."""
    (tmp_path / "own.py").write_text(MODULE)
    settings = ["teacher.model=own:dense", "student.model=own:dense", "teacher.epochs=1", "few_labels=null"]
    return ["run", "--output-dir=run", *(f"--set={setting}" for setting in settings)]


# Imports


WITHOUT_BACKEND = [
    (["--version"], 0, "."),
    (["--help"], 0, "diagnose"),
    (["init", "mine.yaml"], 0, "Wrote mine.yaml"),
    (["run", "--set", "student.modle=x"], 2, "Did you mean 'model'?"),
    (["run", "--set", "student.model=digits_studnet"], 2, "Did you mean 'digits_student'?"),
    (["run", "--set", "distillation.losses=[soft_target]"], 2, "Did you mean 'soft_targets'?"),
    (["run", "none.yaml"], 2, "No such file"),
    (["diagnose", "--set", "seed=x"], 2, "seed: invalid value"),
    (["cache", "build", "none.yaml"], 2, "No such file"),
]
IN_ONE_PROCESS = """
import contextlib, io, json, sys
from keras_kd.cli.main import main
results = []
for arguments in json.loads(sys.argv[1]):
    sys.argv, text = ["keras-kd", *arguments], io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            main()
        except SystemExit as error:
            results.append((error.code, text.getvalue()))
print(json.dumps({"results": results, "loaded": [m for m in ("keras", "tensorflow", "jax") if m in sys.modules]}))
"""


def test_commands_without_need_of_a_backend_load_none(start, tmp_path):
    """TensorFlow takes seconds to load; a typo is reported first."""
    commands = json.dumps([arguments for arguments, _, _ in WITHOUT_BACKEND])
    done = start(sys.executable, "-c", IN_ONE_PROCESS, commands, cwd=tmp_path).wait()
    assert done.returncode == 0, done
    printed = json.loads(done.stdout)
    assert printed["loaded"] == []
    for (arguments, code, part), (returned, text) in zip(WITHOUT_BACKEND, printed["results"], strict=True):
        assert returned == code and part in words(text), (arguments, returned, text)


def test_an_invalid_recipe_in_a_terminal(start, tmp_path):
    """The user's module is imported from the working directory; TensorFlow's log messages are suppressed."""
    (tmp_path / "own.py").write_text(MODULE)
    done = start(COMMAND, "run", "--set", "student.model=own:dens", cwd=tmp_path).wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert words(done.stderr) == (
        "This recipe cannot be run. student.model: AttributeError: module 'own' has no attribute 'dens'. "
        "Received: own:dens. Expected: module:function, importable from here."
    )
    assert {file.name for file in tmp_path.iterdir()} <= {"own.py", "__pycache__"}


def test_a_missing_backend_is_reported(start, tmp_path):
    done = start(COMMAND, "run", cwd=tmp_path, env=os.environ | {"KERAS_BACKEND": "elephant"}).wait()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "elephant" in done.stderr and "KERAS_BACKEND=tensorflow" in words(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_output_pipe_ends_the_command_quietly(start, tmp_path, own_models):
    """`keras-kd run | head` ends without a traceback."""
    command = f"{COMMAND} {' '.join(own_models)} --set=student.epochs=1 | head -c 1"
    done = start("bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}", cwd=tmp_path).wait()
    assert (done.returncode, done.stdout) == (1, "t")
    assert not any(noise in done.stderr for noise in CHATTER)


# Ctrl-C


def test_ctrl_c_while_the_student_is_trained(start, tmp_path, own_models):
    run = start(COMMAND, *own_models, "--set=student.epochs=100000", cwd=tmp_path)
    folder = tmp_path / "run"
    has_begun = lambda: (folder / "teacher_diagnosis.json").exists() and list(folder.glob(".state/*/epoch-*.json"))  # noqa: E731
    run.wait_for(has_begun, "a state of the student's training")
    run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stderr) == (130, RESUMES)
    assert done.stdout.startswith("teacher: 0 of 1\n") and "\nteacher: 1 of 1, validation " in done.stdout
    assert not any(noise in done.stdout for noise in CHATTER)
    assert {file.name for file in folder.iterdir()} == {".state", "teacher.keras", "teacher_diagnosis.json"}


def test_ctrl_c_before_the_work_begins(start, tmp_path, own_models):
    """Interrupts while TensorFlow loads, which takes more than one second of CPU time."""
    run = start(COMMAND, *own_models, cwd=tmp_path)
    run.wait_for(lambda: run.cpu_seconds > 1.5, "the imports")
    run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted.\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", [0.3, 1.5])
def test_ctrl_c_twice_before_the_work_begins(start, tmp_path, own_models, moment):
    """In quick succession, as from a program that forwards signals."""
    run = start(COMMAND, *own_models, cwd=tmp_path)
    run.wait_for(lambda: run.cpu_seconds > moment, "the imports")
    for _ in range(5):
        run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in ("\nInterrupted.\n", "\nInterrupted twice; ended without clean-up.\n")


STUCK = """
import sys, time, types
import keras_kd.cli.recipe
from keras_kd.cli.main import main

def stuck(recipe, console, overwrite):
    console.print("at work")
    {}

keras_kd.cli.recipe.check_keras = keras_kd.cli.recipe.initialize_backend = lambda: None  # load no TensorFlow
sys.modules["keras_kd.recipes.runs"] = types.SimpleNamespace(run=stuck)
sys.argv = ["keras-kd", "run"]
main()
"""


def test_the_second_ctrl_c_ends_the_process_immediately(start, tmp_path):
    """The work swallows the first Ctrl-C and is in native code, with a child process running, at the second."""
    code = """
    import subprocess
    child = subprocess.Popen(["sleep", "10000"])
    try:
        console.print("ready")
        time.sleep(10000)
    except KeyboardInterrupt:
        console.print("swallowed")
    import ctypes
    ctypes.CDLL(None).sleep(10000)"""
    run = start(sys.executable, "-c", STUCK.format(code), cwd=tmp_path)
    run.wait_for(lambda: "ready" in run.stdout, "the work")
    run.send(signal.SIGINT)
    run.wait_for(lambda: "swallowed" in run.stdout, "the first Ctrl-C")
    run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stderr) == (130, "\nInterrupted twice; ended without clean-up.\n")
    assert run.others() == []


def test_a_swallowed_ctrl_c_ends_the_work_at_the_next_step(start, tmp_path):
    """A finalizer or a callback from native code may swallow it silently."""
    code = """
    from keras_kd.progress import bar
    class Waits:
        def __del__(self):
            console.print("waits")
            time.sleep(10000)
    with bar("export", 2) as advance:
        Waits()
        console.print("swallowed")
        advance()
        console.print("not reached")"""
    run = start(sys.executable, "-c", STUCK.format(code), cwd=tmp_path)
    run.wait_for(lambda: "waits" in run.stdout, "the work")
    run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stderr) == (130, "\nInterrupted; nothing was finished yet.\n")
    assert done.stdout == "at work\nexport: 0 of 2\nwaits\nswallowed\n"


def test_an_ignored_ctrl_c_stays_ignored(start, tmp_path):
    """As under `nohup`, or in a shell's background job."""
    code = """
    import signal
    console.print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    raise SystemExit"""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = start(sys.executable, "-c", ignoring + STUCK.format(code), cwd=tmp_path).wait()
    assert done.stdout == "at work\nTrue\n"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_ctrl_c_at_any_moment(start, tmp_path, own_models, seed):
    """From the first import to the end of the process: one message, and no process left running."""
    settings = ["--set=teacher.epochs=20", "--set=student.epochs=15", "--set=export.formats=[float32]"]
    run = start(COMMAND, *own_models, *settings, cwd=tmp_path)
    moment = random.Random(seed).uniform(0.5, 30.0)
    run.wait_for(lambda: run.cpu_seconds > moment or run.has_ended, f"{moment:.1f} s of the processor")
    if not run.has_ended:
        run.send(signal.SIGINT)
    done = run.wait()
    if done.returncode in (0, -signal.SIGINT):  # before or during the interpreter's clean-up, after the report
        assert "Report: run/report.html" in done.stdout and done.stderr == "", done
    else:
        assert done.returncode == 130, done
        assert done.stderr in (RESUMES, "\nInterrupted.\n", "\nInterrupted; nothing was finished yet.\n")
    assert not any(noise in done.stdout for noise in CHATTER)
    assert run.others() == []


@pytest.mark.long
def test_a_complete_run_after_ctrl_c(start, tmp_path, own_models):
    """The teacher is not trained again, and the output is readable."""
    run = start(COMMAND, *own_models, "--set=student.epochs=100000", cwd=tmp_path)
    run.wait_for(lambda: (tmp_path / "run" / ".state" / "teacher.json").exists(), "the teacher")
    run.send(signal.SIGINT)
    assert run.wait().returncode == 130
    before = (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns
    done = start(COMMAND, *own_models, "--set=student.epochs=1", cwd=tmp_path).wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(noise in done.stdout for noise in CHATTER) and "\x1b" not in done.stdout
    assert "teacher: loaded run/teacher.keras, trained before with these settings." in done.stdout
    assert "digits: from teacher to phone" in done.stdout
    assert "Files: run    Report: run/report.html" in done.stdout
    assert (tmp_path / "run" / "teacher.keras").stat().st_mtime_ns == before
    names = {"teacher.keras", "student.keras", "student_float32.tflite", "student_int8.tflite", "labels.txt"}
    names |= {"student_float32.md", "student_int8.md", "history.json", "report.json", "report.html"}
    names |= {"teacher_diagnosis.json", ".state"}
    assert {file.name for file in (tmp_path / "run").iterdir()} == names
