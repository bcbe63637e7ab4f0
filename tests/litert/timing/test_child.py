"""The child process: its answers, and what happens if it fails, crashes or does not end."""

import os
import signal
import sys
from pathlib import Path

import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert.timing import FILE_SCRIPT, TimedChild, _file, serving, time_runs
from keras_kd.litert.timing._file import FileSubject

SCRIPT = """
import os, signal, sys, time
from keras_kd.litert.timing.serving import serve

class Subject:
    def prepare(self): pass
    def load(self): {load}
    def inputs(self): return {{"x": "1 float32"}}
    def run(self): {run}
    def bind(self): return self.bound
    def bound(self): {bound}

print("a library's line on the standard output")
serve(Subject())
"""


@pytest.fixture
def child(tmp_path):
    """A function that starts a child whose subject does the given things."""
    started = []

    def start(load="pass", run="pass", bound="pass", **options):
        script = tmp_path / "child.py"
        script.write_text(SCRIPT.format(load=load, run=run, bound=bound))
        started.append(TimedChild(script, [], **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_file_is_loaded_run_and_timed(pair_file, tmp_path):
    (tmp_path / "net.tflite").write_bytes(pair_file)
    with TimedChild(FILE_SCRIPT, [str(tmp_path / "net.tflite"), "1", "1"]) as child:
        assert child.inputs == {"features": "1x4 float32", "ids": "1x3 int32"}
        seconds = child.time(warmup=1, min_runs=7, min_seconds=0.0)
        assert len(seconds) == 7 and all(one > 0 for one in seconds)
        assert child.load_ms > 0 and child.first_run_ms > 0


def test_a_scalar_input(tmp_path):
    tf = pytest.importorskip("tensorflow")
    double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([double.get_concrete_function()], double)
    (tmp_path / "scalar.tflite").write_bytes(converter.convert())
    with TimedChild(FILE_SCRIPT, [str(tmp_path / "scalar.tflite"), "1", "1"]) as child:
        assert child.inputs == {"x": "scalar float32"}
        assert len(child.time(0, 2, 0.0)) == 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_is_that_of_the_model(child):
    """Whatever this process uses; and it is the peak, since the megabytes are freed before the answer."""
    small, large = child(), child(load="b'x' * 50_000_000", bound="b'x' * 90_000_000")
    assert small.memory_bytes < 10_000_000
    assert 49_000_000 < large.memory_bytes < 60_000_000
    large.time(0, 1, 0.0)
    assert 89_000_000 < large.memory_bytes < large.peak_bytes


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(serving, "_STATUS", tmp_path / "none")
    assert serving.memory_bytes("VmHWM") is None


def test_runs_go_on_until_there_are_enough_and_enough_time():
    now, ran = [0.0], []

    def run():
        now[0] += 0.125
        ran.append(1)

    assert time_runs(run, 3, 4, 0.0, clock=lambda: now[0]) == [0.125] * 4
    assert len(ran) == 7
    assert len(time_runs(run, 0, 4, 2.0, clock=lambda: now[0])) == 16


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", f"LiteRT crashed on the file ({signal.SIGSEGV.name})"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "LiteRT was killed while it had the file"),
        ("raise ValueError('two\\n lines')", "two lines"),
        ("raise MemoryError", "MemoryError"),
        ("sys.exit(3)", "3"),
        ("os._exit(4)", "LiteRT does not load the file. Received: exit code 4"),
    ],
)
def test_a_failure_is_a_readable_error(child, code, message):
    with pytest.raises(ConfigurationError) as error:
        child(load=code)
    assert message in str(error.value)


def test_a_crash_while_it_is_timed_names_the_runtime(child):
    running = child(bound="os.abort()", runtime="Keras")
    with pytest.raises(ConfigurationError, match="Keras crashed on the file .SIGABRT."):
        running.time(0, 1, 0.0)


@pytest.mark.parametrize("place", ["load", "run"])
def test_a_model_that_does_not_end_is_ended(child, place):
    with pytest.raises(ConfigurationError, match="The model was not finished after 1 s"):
        child(**{place: "time.sleep(1000)"}, timeout_s=1)


def test_a_model_that_hangs_while_it_is_timed_is_ended(child):
    running = child(bound="time.sleep(1000)")
    running._timeout_s, running.first_run_ms = 0.5, 0.0
    with pytest.raises(ConfigurationError, match="not finished after 0.5 s"):
        running.time(0, 1, 0.0)
    assert running._child.poll() == -signal.SIGKILL


def test_ctrl_c_of_the_terminal_does_not_reach_the_child(child):
    running = child()
    os.kill(running._child.pid, signal.SIGINT)
    assert len(running.time(0, 2, 0.0)) == 2


def test_ctrl_c_ends_the_child(child, monkeypatch):
    running = child()
    monkeypatch.setattr(running, "_reply", lambda limit_s: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        running.time(0, 1, 0.0)
    assert running._child.poll() is not None


def test_the_child_ends_with_its_input(child):
    """As when its parent is killed."""
    running = child()
    running._child.stdin.close()
    assert running._child.wait(timeout=60) == 0


def test_the_child_ends_itself_in_time(child):
    """In native code as well, if its parent is gone."""
    running = child(bound="time.sleep(1000)")
    running._child.stdin.write('{"warmup": 0, "min_runs": 1, "min_seconds": 0, "limit_s": -4.5}\n')
    running._child.stdin.flush()
    assert running._child.wait(timeout=60) == -signal.SIGALRM


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "1", None])
def test_the_time_limit_is_a_positive_number(timeout_s):
    with pytest.raises(ConfigurationError, match="timeout_s"):
        TimedChild(Path(sys.executable), [], timeout_s=timeout_s)


def test_an_error_without_words_says_its_kind(child):
    with pytest.raises(ConfigurationError, match="^KeyError: 1$"):
        child(load="dict()[1]")


def test_a_file_whose_inputs_are_not_those_of_its_graph(pair_file, tmp_path, monkeypatch):
    (tmp_path / "net.tflite").write_bytes(pair_file)
    subject = FileSubject(str(tmp_path / "net.tflite"), 1, 1)
    monkeypatch.setattr(_file, "random_inputs", lambda file, open_size: {})
    subject.prepare()
    subject.load()
    with pytest.raises(ConfigurationError, match=r"is damaged: .*Received: tensors \[.*\]. Expected: tensors \[\]"):
        subject.inputs()
