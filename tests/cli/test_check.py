"""`keras-kd check`."""

import json

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.litert import GpuRun

layers = keras.layers


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A net that the GPU takes whole, as float32 and int8, and one that it does not."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    conv = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])
    three = keras.Sequential([keras.Input((3, 4, 4, 1)), layers.Conv3D(2, 2), layers.Flatten(), layers.Dense(2)])
    samples = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype("float32")
    kd.export.export_tflite(conv, folder / "conv.tflite", isolate=False)
    kd.export.export_tflite(conv, folder / "int8.tflite", isolate=False, format="int8", calibration=samples)
    kd.export.export_tflite(three, folder / "three.tflite", isolate=False)
    (folder / "random.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(200)))
    return folder


def test_a_file_that_is_taken_whole_exits_with_0(invoke, files):
    result = invoke("check", str(files / "conv.tflite"), "--delegate", "gpu")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "GPU (by table): 3 of 3 operators in 1 subgraph" in result.stdout


def test_a_fallback_exits_with_1_and_says_why_and_what_to_do(invoke, files):
    result = invoke("check", str(files / "three.tflite"), "--delegate", "gpu")
    assert result.exit_code == 1
    for part in ("CONV_3D: it is not in the delegate's table", "Replace Conv3D", "RESHAPE: a tensor has 5 dimensions"):
        assert part in result.stdout


def test_all_delegates_are_the_default(invoke, files):
    result = invoke("check", str(files / "conv.tflite"))
    assert result.exit_code == 1
    for check in ("Core ML (by table)", "Edge TPU (by table)", "NNAPI (by table)", "XNNPACK (run here)"):
        assert check in result.stdout
    assert result.stdout.count("Source: ") == len(kd.export.delegates.DELEGATES)


def test_several_files_are_all_checked(invoke, files):
    names = [str(files / f"{name}.tflite") for name in ("int8", "conv")]
    result = invoke("check", *names, "--delegate", "edgetpu")
    assert result.exit_code == 1
    assert all(name in result.stdout for name in names)
    assert invoke("check", names[0], "--delegate", "edgetpu").exit_code == 0


def test_json(invoke, files):
    result = invoke("check", str(files / "three.tflite"), "--delegate", "gpu", "--json")
    (answer,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["file"].endswith("three.tflite")
    (check,) = answer["checks"]
    assert (check["delegate"], check["basis"], check["is_whole"]) == ("gpu", "by table", False)
    assert check["operators"][0]["refusal"]["kind"] == "operator"


def test_unreadable_files_exit_with_2_and_the_others_are_checked(invoke, files):
    names = [str(files / name) for name in ("random.tflite", "missing.tflite", "conv.tflite", ".")]
    result = invoke("check", *names, "--delegate", "gpu")
    assert result.exit_code == 2
    assert "3 of 3 operators" in result.stdout
    assert result.stderr.count(".tflite: ") == 2
    assert "Traceback" not in result.stderr
    answers = json.loads(invoke("check", *names, "--delegate", "gpu", "--json").stdout)
    assert ["error" in answer for answer in answers] == [True, True, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--delegate", "npu"], "Received: 'npu'. Expected: coreml, edgetpu, gpu"),
        (["--delegate", "nnapi", "--run"], "use it with --delegate gpu or all"),
    ],
)
def test_invalid_options_exit_with_2(invoke, files, options, message):
    result = invoke("check", str(files / "conv.tflite"), *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_no_file_is_a_usage_error(invoke):
    assert invoke("check").exit_code == 2


def test_run_adds_the_answer_of_the_gpu(invoke, files, monkeypatch):
    ran = GpuRun("llvmpipe", False, 2, ("CONV_2D: no",), ("a shader",))
    monkeypatch.setattr(litert, "run_on_gpu", lambda content: ran)
    result = invoke("check", str(files / "conv.tflite"), "--delegate", "gpu", "--run")
    assert result.exit_code == 1
    assert "GPU (run here, llvmpipe): not the whole file, only 2 of its operators" in result.stdout
    (answer,) = json.loads(invoke("check", str(files / "conv.tflite"), "--delegate", "gpu", "--run", "--json").stdout)
    assert answer["gpu_run"]["errors"] == ["a shader"]


def test_no_gpu_exits_with_2(invoke, files, monkeypatch):
    def refuse(content):
        raise ConfigurationError("LiteRT's accelerator found no GPU.")

    monkeypatch.setattr(litert, "run_on_gpu", refuse)
    result = invoke("check", str(files / "conv.tflite"), "--delegate", "gpu", "--run")
    assert result.exit_code == 2
    assert "found no GPU" in result.stderr
