"""`keras-kd inspect`: standard output, standard error, exit codes, and files that are no LiteRT files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_kd as kd


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, name="logits")])
    path = tmp_path_factory.mktemp("files") / "net.tflite"
    kd.export_tflite(net, path, isolate=False)
    return path.read_bytes()


@pytest.fixture
def net(content, tmp_path):
    (tmp_path / "net.tflite").write_bytes(content)
    return "net.tflite"


def test_it_prints_the_inspection(invoke, net):
    result = invoke("inspect", net)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{kd.export.inspect_tflite('net.tflite')}\n"
    assert "FULLY_CONNECTED" in result.stdout and result.stdout.startswith("net.tflite: ")


def test_operators_are_optional(invoke, net):
    result = invoke("inspect", net, "--no-operators")
    assert result.stdout == kd.export.inspect_tflite("net.tflite").text(operators=False) + "\n"
    assert len(result.stdout) < len(invoke("inspect", net, "--operators").stdout)


def test_several_files(invoke, net, tmp_path, content):
    (tmp_path / "other.tflite").write_bytes(content)
    result = invoke("inspect", net, "other.tflite")
    assert result.stdout == "\n".join(f"{kd.export.inspect_tflite(name)}\n" for name in (net, "other.tflite"))


def test_json(invoke, net):
    result = invoke("inspect", "--json", net, net)
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == second == json.loads(json.dumps(kd.export.inspect_tflite("net.tflite").as_dict()))
    assert first["name"] == "net.tflite" and first["multiply_adds"] == 12


def test_a_picture(invoke, net, tmp_path):
    assert invoke("inspect", net, "--svg", "pictures/net.svg").exit_code == 0
    assert (tmp_path / "pictures" / "net.svg").read_text() == kd.export.inspect_tflite("net.tflite").svg()


def test_a_picture_of_two_files(invoke, net, tmp_path):
    result = invoke("inspect", net, net, "--svg", "net.svg")
    assert result.exit_code == 2 and "single FILE" in result.stderr
    assert not (tmp_path / "net.svg").exists()


def test_a_picture_that_cannot_be_written(invoke, net, tmp_path):
    (tmp_path / "folder").mkdir()
    result = invoke("inspect", net, "--svg", "folder")
    assert (result.exit_code, result.stderr) == (2, "folder cannot be written: Is a directory.\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "net.tflite"]


BAD = {
    "missing": (None, "bad cannot be read: No such file or directory."),
    "empty": (b"", "bad is not a LiteRT (`.tflite`) file. Received: 0 bytes"),
    "text": (b"no model, but a text", "bad is not a LiteRT"),
    "damaged": (b"\x1c\0\0\0TFL3" + bytes(99), "bad is damaged."),
    "keras": (b"PK\x03\x04 a zip file", "bad is not a LiteRT"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_a_litert_file(invoke, tmp_path, kind):
    content, message = BAD[kind]
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    result = invoke("inspect", "bad", "--svg", "bad.svg")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert not (tmp_path / "bad.svg").exists()


def test_a_folder_a_pipe_and_a_device(invoke, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((".", "Is a directory"), ("pipe", "Not a regular file"), ("/dev/zero", "Not a regular file")):
        result = invoke("inspect", path)
        assert (result.exit_code, result.stdout) == (2, "") and f"{path} cannot be read: {message}." in result.stderr


def test_a_file_without_permission(invoke, net, monkeypatch):
    def read_bytes(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)  # the tests may run as root, who may read everything
    result = invoke("inspect", net)
    assert result.exit_code == 2 and result.stderr.startswith("net.tflite cannot be read: Permission denied.")


def test_the_other_files_are_shown(invoke, net):
    result = invoke("inspect", "none.tflite", net, "no.tflite")
    assert result.exit_code == 2 and result.stdout == f"{kd.export.inspect_tflite(net)}\n"
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["none.tflite", "no.tflite"]


def test_no_file_is_a_usage_error(invoke):
    result = invoke("inspect")
    assert result.exit_code == 2 and "FILE" in result.stderr


def test_neither_keras_nor_tensorflow_is_loaded(net, tmp_path):
    """They take seconds, and the command needs neither."""
    code = f"""
import sys
from keras_kd.cli.commands import app
app(["inspect", {net!r}, "--svg", "net.svg"], standalone_mode=False)
print([name for name in ("keras", "tensorflow", "matplotlib") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.stdout.endswith("\n[]\n") and result.stderr == ""
