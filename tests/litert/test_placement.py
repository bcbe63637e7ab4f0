"""What a child process finds out about a file, and what happens if LiteRT refuses it or crashes on it."""

import signal

import keras
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert import placement, read_file, run_on_gpu, xnnpack_placement

# Printed by ai-edge-litert 2.3.0 for three files, shortened.
ADAPTER = "I0 1 environment.cc:532] Selected adapter: llvmpipe (LLVM 15.0.6, 256 bits), arch=software, vendor=mesa\n"
PARTLY = """ERROR: Following operations are not supported by GPU delegate:
CONV_3D: Operation is not supported.
RESHAPE: Tensor dimensions must be less than 5. conv3d_1/convolution
1 operations will run on the GPU, and the remaining 2 operations will run on the CPU.
"""
NONE = """ERROR: Following operations are not supported by GPU delegate:
TRANSPOSE: Permutation for transpose is invalid.
No operations will run on the GPU, and all 2 operations will run on the CPU.
"""
BROKEN = """E0 1 environment.cc:105] Validation error: Error while parsing WGSL: :58:22 error: cannot assign
E0 1 environment.cc:105] Validation error: [Invalid ShaderModule (unlabeled)] is invalid due to a previous error.
"""
NOT_STARTED = "E0 1 delegate_webgpu.cc:478] Failed to create litert::ml_drift::Kernel: NOT_FOUND: Output id not found\n"
REFUSED = "ERROR: [./litert_compiled_model.h:1961]\n└ Failed to modify graph with delegate"


@pytest.fixture(scope="module")
def dense_file(export_bytes):
    return export_bytes(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)]))


@pytest.fixture
def answered(monkeypatch):
    """A function that replaces the child's answer and log."""

    def answer(is_whole, log, error=""):
        monkeypatch.setattr(placement, "_ask", lambda *_: ({"is_whole": is_whole, "error": error}, log))

    return answer


def test_xnnpack_replaces_dense_layers(dense_file):
    operators = read_file(dense_file).graphs[0].operators
    placed = xnnpack_placement(dense_file)
    assert [one.name for one in placed] == ["FULLY_CONNECTED", "FULLY_CONNECTED", "DELEGATE"]
    assert [(one.inputs, one.outputs) for one in placed[:2]] == [(one.inputs, one.outputs) for one in operators]
    assert placed[2].outputs == operators[1].outputs


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 200, b"\x20\0\0\0TFL3" + b"\xff" * 500])
def test_what_litert_does_not_load_is_an_error(content):
    with pytest.raises(ConfigurationError, match="LiteRT"):
        xnnpack_placement(content)


def test_a_child_that_takes_too_long_is_ended(dense_file):
    with pytest.raises(ConfigurationError, match="not finished with the file after 0.01 s"):
        xnnpack_placement(dense_file, timeout_s=0.01)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "1", None])
def test_the_time_limit_is_a_positive_number(dense_file, timeout_s):
    with pytest.raises(ConfigurationError, match="timeout_s"):
        xnnpack_placement(dense_file, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", f"crashed on the file ({signal.SIGSEGV.name})"),
        ("raise SystemExit(3)", "does not load the file. Received: exit code 3"),
        ("raise ValueError('INFO: no'); ", "ValueError: INFO: no"),
        ("print('no answer')", "ended without an answer"),
        ("pass", "ended without an answer"),
    ],
)
def test_a_child_that_fails_is_a_readable_error(monkeypatch, tmp_path, code, message):
    script = tmp_path / "child.py"
    script.write_text(code)
    monkeypatch.setattr(placement, "_SCRIPT", script)
    with pytest.raises(ConfigurationError) as error:
        xnnpack_placement(b"")
    assert message in str(error.value)


def test_the_log_of_the_gpu_says_what_it_refuses(answered):
    answered(False, ADAPTER + PARTLY, REFUSED)
    found = run_on_gpu(b"")
    assert (found.adapter, found.is_whole, found.num_taken) == ("llvmpipe (LLVM 15.0.6, 256 bits)", False, 1)
    assert [one.split(":")[0] for one in found.refusals] == ["CONV_3D", "RESHAPE"]
    answered(False, ADAPTER + NONE, REFUSED)
    assert run_on_gpu(b"").num_taken == 0


def test_a_shader_that_does_not_compile_means_not_whole_whatever_litert_says(answered):
    answered(True, ADAPTER + BROKEN)
    found = run_on_gpu(b"")
    assert not found.is_whole
    assert found.errors == ("Error while parsing WGSL: :58:22 error: cannot assign",)
    assert "cannot assign" in str(found)


def test_a_kernel_that_does_not_start_is_an_error_of_the_driver(answered):
    answered(False, ADAPTER + NOT_STARTED, REFUSED)
    found = run_on_gpu(b"")
    assert (found.refusals, found.errors) == (
        ("Failed to modify graph with delegate",),
        ("NOT_FOUND: Output id not found",),
    )


def test_the_whole_file_on_the_gpu(answered):
    answered(True, ADAPTER)
    assert run_on_gpu(b"").is_whole
    assert str(run_on_gpu(b"")) == "GPU (run here, llvmpipe (LLVM 15.0.6, 256 bits)): the whole file"


def test_no_gpu_is_an_error_that_names_a_driver(answered):
    answered(False, "ERROR: No adapters found", REFUSED)
    with pytest.raises(ConfigurationError, match="found no GPU. Install a Vulkan driver"):
        run_on_gpu(b"")
