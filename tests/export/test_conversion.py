"""What is said where the converter fails. The children here are small scripts: no TensorFlow is loaded."""

import numpy as np
import pytest

from keras_kd.errors import ExportError
from keras_kd.export import _conversion
from keras_kd.export._conversion import run_converter, useful_lines
from keras_kd.export._convert import batches


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Runs the conversion with another script in the converter's place: a function of its source."""

    def run(source, **options):
        script = tmp_path / "script.py"
        script.write_text(source)
        monkeypatch.setattr(_conversion, "SCRIPT", script)
        return run_converter(tmp_path / "saved_model", None, {}, 1, isolate=True, **options)

    return run


def kill(name):
    return f"import os, signal, sys; print('the end', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.{name})"


def test_a_signal_is_named_with_the_last_words_and_the_hint(run_script):
    with pytest.raises(ExportError, match="(?s)SIGABRT.*the end.*unroll it"):
        run_script(kill("SIGABRT"), crash_hint="unroll it")


def test_a_kill_from_outside_is_put_down_to_memory(run_script):
    with pytest.raises(ExportError, match="(?s)SIGKILL.*memory"):
        run_script(kill("SIGKILL"), crash_hint="unroll it")


def test_an_exit_code_is_told(run_script):
    with pytest.raises(ExportError, match="exit code 3"):
        run_script("import sys; sys.exit(3)")


def test_the_job_reaches_the_script_and_its_output_comes_back(run_script, capfd):
    source = (
        "import json, pathlib, sys\n"
        "job = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
        "print('noise'); print('noise', file=sys.stderr)\n"
        "pathlib.Path(job['output']).write_text(f\"{job['quantization']} {job['batch_size']}\")"
    )
    assert run_script(source) == b"None 1"
    assert capfd.readouterr() == ("", "")


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
