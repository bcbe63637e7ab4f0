"""`keras-kd export`: the lines that it prints, the files, and its exit codes."""

import functools

import pytest

from keras_kd import litert
from keras_kd.recipes import exporting


@pytest.fixture
def export(invoke, tmp_path, monkeypatch, make_model):
    monkeypatch.setattr(exporting, "export_tflite", functools.partial(exporting.export_tflite, isolate=False))
    make_model().save(tmp_path / "net.keras")
    return functools.partial(invoke, "export", str(tmp_path / "net.keras"))


def test_a_line_for_each_file(export, tmp_path):
    result = export("--format", "float32", "--format", "int8", "--data", "digits", "--samples", "30")
    assert result.exit_code == 0 and result.stderr.strip() in ("", "loading TensorFlow")
    first, second = result.stdout.splitlines()
    assert first.startswith("net_float32.tflite: float32, ") and second.startswith("net_int8.tflite: int8, ")
    assert "100.0% the same class, on 30 real samples" in first
    assert {str(tensor.dtype) for tensor in litert.Model(tmp_path / "net_int8.tflite").inputs.values()} == {"int8"}


def test_files_from_pixels_to_probabilities(export, tmp_path):
    result = export("--data", "digits", "--samples", "9", "--preprocess", "pixels", "--postprocess", "softmax")
    assert result.exit_code == 0
    assert list(litert.Model(tmp_path / "net_float32.tflite").outputs) == ["probabilities"]


def test_a_mixed_file(export, tmp_path):
    options = ("--format", "int8", "--mixed", "FULLY_CONNECTED=float32", "--data", "digits")
    assert export(*options).exit_code == 0
    content = (tmp_path / "net_mixed.tflite").read_bytes()
    assert "FULLY_CONNECTED" in litert.float_operators(content) and (tmp_path / "net_int8.tflite").exists()


def test_what_goes_wrong(export, invoke, tmp_path):
    content, damaged = bytearray((tmp_path / "net.keras").read_bytes()), tmp_path / "damaged.keras"
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for result, part in (
        (export("--format", "int8"), "--data"),
        (export("--format", "int9"), "'int16x8'"),
        (export("--mixed", "head"), "Received: 'head'. Expected: OPERATOR_OR_LAYER=FORMAT"),
        (export("--mixed", "head=int9"), "'int16x8'"),
        (invoke("export", str(tmp_path / "none.keras")), "model file does not exist"),
        (invoke("export", str(damaged)), "a damaged file"),
    ):
        assert result.exit_code == 2 and part in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.tflite"))
