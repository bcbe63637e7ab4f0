"""Error messages when the converter fails. The child processes are small scripts that do not load TensorFlow."""

import contextlib
import gc
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_kd.errors import ExportError
from keras_kd.export import _conversion
from keras_kd.export._conversion import Converter, run_converter, useful_lines
from keras_kd.export._convert import batches
from keras_kd.export._saved_model import Endpoint
from keras_kd.litert import FORMATS

SERVER = """
import json, os, pathlib, signal, sys
print("noise", file=sys.stderr, flush=True)
for line in sys.stdin:
    job = json.loads(pathlib.Path(line.strip()).read_text())
    {action}
    print("done", flush=True)
"""
WRITE = "pathlib.Path(job['output']).write_text(f\"{os.getpid()} {job['weights']} {job['batch_size']}\")"


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """A function that converts with a substitute script; its argument is the code that handles a job."""

    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def run(action, converter=None, model=None):
        (tmp_path / "script.py").write_text(SERVER.format(action=action))
        monkeypatch.setattr(_conversion, "SCRIPT", tmp_path / "script.py")
        with Converter() if converter is None else contextlib.nullcontext(converter) as used:
            endpoints = [Endpoint("serve", model or plain, [], {})]
            content = run_converter(tmp_path / "saved_model", FORMATS["float32"], endpoints, 1, converter=used)
            return content.decode()

    return run


def kill(name):
    return f"print('the end', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.{name})"


def test_a_signal_is_named_with_the_last_words_and_the_hint(run_script):
    with pytest.raises(ExportError, match="(?s)SIGABRT.*the end.*unroll=True in LSTM"):
        run_script(kill("SIGABRT"), model=keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3)]))


def test_a_kill_from_outside_is_put_down_to_memory(run_script):
    with pytest.raises(ExportError, match="(?s)SIGKILL.*memory"):
        run_script(kill("SIGKILL"))


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_code_is_told(code, run_script):
    """Even if the child, and the second one that gets the job, exit with code 0 but without a result."""
    with pytest.raises(ExportError, match=f"exit code {code}"):
        run_script(f"sys.exit({code})")


def test_the_job_reaches_the_script_and_its_output_comes_back(run_script, capfd):
    assert run_script(WRITE).endswith(" float32 1")
    assert capfd.readouterr() == ("", "")


def ended(pid):
    """Whether a process is gone; our own children have already been waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_child_serves_several_jobs_and_ends_with_the_block(run_script):
    with Converter() as converter:
        pids = {int(run_script(WRITE, converter).split()[0]) for _ in range(3)}
    assert len(pids) == 1 and ended(pids.pop())


def test_a_crash_costs_one_job_and_its_last_words_are_not_told_twice(run_script):
    with Converter() as converter:
        with pytest.raises(ExportError, match="(?s)SIGSEGV.*the end"):
            run_script(kill("SIGSEGV"), converter)
        with pytest.raises(ExportError, match="exit code 3") as error:
            run_script("sys.exit(3)", converter)
        assert "the end" not in str(error.value)
        assert run_script(WRITE, converter).endswith(" float32 1")


def test_a_child_that_left_before_the_job_is_replaced(run_script):
    """As after an idle timeout."""
    with Converter() as converter:
        first = int(run_script(WRITE, converter).split()[0])
        os.kill(first, signal.SIGTERM)
        converter._child.wait()
        assert int(run_script(WRITE, converter).split()[0]) != first


def test_a_child_that_leaves_while_it_is_asked_is_replaced(run_script, tmp_path):
    mark = f"pathlib.Path({str(tmp_path / 'mark')!r})"
    with Converter() as converter:
        leave_once = f"first = not {mark}.exists(); {mark}.touch(); first and sys.exit(0); {WRITE}"
        assert run_script(leave_once, converter).endswith(" float32 1")


def test_a_converter_that_nobody_holds_takes_its_child_along(run_script):
    converter = Converter()
    pid = int(run_script(WRITE, converter).split()[0])
    del converter
    gc.collect()
    assert ended(pid)


PARENT = """
import os, pathlib, signal
from keras_kd.export import _conversion
_conversion.SCRIPT = pathlib.Path({script!r})
converter = _conversion.Converter()
converter.start()
converter._child.stdout.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    """The child holds a pipe open while it is alive."""
    script, pipe = tmp_path / "child.py", tmp_path / "pipe"
    os.mkfifo(pipe)
    script.write_text(f"import sys; held = open({str(pipe)!r}, 'w'); print('up', flush=True); sys.stdin.readline()")
    command = [sys.executable, "-c", PARENT.format(script=str(script))]
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        parent = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "jax"}, check=False)
        assert parent.returncode == -signal.SIGKILL
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""  # end of file: the child is gone
    finally:
        os.close(reader)


def test_useful_lines_keeps_errors_and_drops_the_log():
    log = "\n".join(
        [
            "I0000 00:00:1795182754.483922    5287 reader.cc:83] error: of no interest",
            "Traceback (most recent call last):",
            '<unknown>:0: error: loc(callsite(fused["Foo:", "a/b"])): \'tf.Foo\' op is neither',
            "Custom ops: Foo",
            "Custom ops: Foo",
            "module { dump }",
        ]
    )
    assert useful_lines(log).splitlines() == ["error: 'tf.Foo' op is neither", "Custom ops: Foo"]


def test_useful_lines_takes_the_last_ones_where_none_names_an_error():
    assert useful_lines("\n".join(map(str, range(20)))).splitlines() == [str(i) for i in range(12, 20)]


def test_batches_are_full_and_hold_every_row():
    arrays = {"a": np.arange(5), "b": np.arange(5) * 10}
    parts = list(batches(arrays, 3))
    assert [part["a"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 0]]
    assert [part["b"].tolist() for part in parts] == [[0, 10, 20], [30, 40, 0]]
