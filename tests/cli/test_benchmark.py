"""`keras-kd benchmark`."""

import json
import signal
import sys

import keras
import pytest

from keras_kd import evaluation
from keras_kd.cli.benchmark import repeat
from keras_kd.evaluation.latency import models

LOG = """STARTING!
Graph: [net.tflite]
count=50 first=119212 curr=118055 min=113737 max=124776 avg=119375 std=1948
Inference timings in us: Init: 870557, First inference: 130565, Warmup (avg): 122373, Inference (avg): 119375
"""
QUICK = ("--runs", "4", "--rounds", "2", "--seconds", "0", "--no-cross-check", "--no-profile")


@pytest.fixture(scope="module")
def content(export_bytes):
    return export_bytes(keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3)]))


@pytest.fixture
def net(content, tmp_path):
    (tmp_path / "net.tflite").write_bytes(content)
    return "net.tflite"


def test_a_file(invoke, net):
    result = invoke("benchmark", net, *QUICK, "--threads", "1", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("net.tflite")]
    assert [(row[0], row[1], row[-4]) for row in rows] == [("net.tflite", "1", "1.00x"), ("net.tflite", "2", "1.00x")]
    assert "Input: x 1x4 float32 (net.tflite)." in result.stdout


def test_json_and_nothing_else_on_the_standard_output(invoke, net):
    result = invoke("benchmark", net, "--json", "--runs", "4", "--rounds", "2", "--seconds", "0")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    (model,) = found["models"]
    assert (model["name"], model["latency"]["num_runs"], model["inputs"]) == (net, 4, {"x": "1x4 float32"})
    assert found["profiles"][net]["num_runs"] == 20 and model["cross_check"]["num_runs"] == 50


def test_damaged_files_exit_with_2_and_one_line_each_and_the_others_are_measured(invoke, net, content, tmp_path):
    (tmp_path / "half.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.keras").write_text("no model")
    names = ["half.tflite", "text.keras", "none.tflite", ".", net]
    result = invoke("benchmark", *names, *QUICK)
    assert result.exit_code == 2
    assert "1.00x" in result.stdout and "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert [line.startswith(name) for line, name in zip(lines, names[:4], strict=True)] == [True] * 4
    found = json.loads(invoke("benchmark", *names, *QUICK, "--json").stdout)
    assert list(found["failures"]) == names[:4] and len(found["models"]) == 1


def test_options_reach_the_function(invoke, monkeypatch):
    got = {}
    empty = evaluation.Benchmark((), {}, {}, {})
    monkeypatch.setattr(evaluation, "benchmark_models", lambda files, **options: got.update(options) or empty)
    arguments = ("--threads", "1", "2", "4", "--open-size", "7", "--timeout", "9", *QUICK)
    assert invoke("benchmark", "a.tflite", *arguments).exit_code == 0
    assert got == {
        "threads": [1, 2, 4],
        "rounds": 2,
        "min_runs": 4,
        "min_seconds": 0.0,
        "open_size": 7,
        "profile": False,
        "cross_check": False,
        "timeout_s": 9.0,
        "progress": True,
    }


@pytest.mark.parametrize(
    ("arguments", "repeated"),
    [
        (["--threads", "1", "2", "4"], ["--threads", "1", "--threads", "2", "--threads", "4"]),
        (["--threads", "1", "a.tflite", "2"], ["--threads", "1", "a.tflite", "2"]),
        (["7", "--threads", "1", "--runs", "5"], ["7", "--threads", "1", "--runs", "5"]),
        (["--threads"], ["--threads"]),
        ([], []),
    ],
)
def test_numbers_after_an_option_belong_to_it(arguments, repeated):
    assert repeat("--threads", arguments) == repeated


@pytest.mark.parametrize("options", [["--threads", "0"], ["--rounds", "0"], ["--runs", "0"], ["--timeout", "-1"]])
def test_invalid_numbers_exit_with_2(invoke, net, options):
    result = invoke("benchmark", net, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Received: " in result.stderr


def test_no_file_is_a_usage_error(invoke):
    assert invoke("benchmark").exit_code == 2
    assert invoke("benchmark", "--adb").exit_code == 2


def test_commands_for_a_phone(invoke, net, monkeypatch):
    monkeypatch.setattr(models, "TimedChild", None)  # nothing is measured
    result = invoke("benchmark", net, "--adb", "--threads", "1", "4")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "no phone" in lines[0]
    assert lines[4] == "adb push net.tflite /data/local/tmp/net.tflite"
    assert [("--use_gpu=true" in line, "--num_threads=4" in line) for line in lines[5:]] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_the_log_of_a_phone(invoke, tmp_path):
    (tmp_path / "phone.txt").write_text(LOG)
    result = invoke("benchmark", "--adb-log", "phone.txt")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "net.tflite: mean 119 ms of 50 runs, load 871 ms, first run 131 ms\n"
    (run,) = json.loads(invoke("benchmark", "--adb-log", "phone.txt", "--json").stdout)
    assert run["mean_ms"] == 119.375


@pytest.mark.parametrize(("name", "message"), [("none.txt", "cannot be read: No such file"), ("empty.txt", "not the")])
def test_a_log_that_cannot_be_read(invoke, tmp_path, name, message):
    (tmp_path / "empty.txt").write_text("")
    result = invoke("benchmark", "--adb-log", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_damaged_file_has_no_commands(invoke, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(99))
    result = invoke("benchmark", "bad.tflite", "--adb")
    assert result.exit_code == 2 and "bad.tflite is damaged" in result.stderr


@pytest.mark.long
def test_ctrl_c_ends_the_children(start, net, tmp_path):
    code = "from keras_kd.cli.main import main; main()"
    run = start(sys.executable, "-c", code, "benchmark", net, "--seconds", "100000", "--rounds", "100000", cwd=tmp_path)
    run.wait_for(lambda: "benchmark: " in run.stdout, "the first round")
    run.send(signal.SIGINT)
    done = run.wait()
    assert (done.returncode, done.stderr) == (130, "\nInterrupted; nothing was finished yet.\n")
    assert run.others() == []
