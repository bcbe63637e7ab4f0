"""The time of each operator, from LiteRT's profiler."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert import Model
from keras_kd.litert.timing import profile, profile_file
from keras_kd.litert.timing.profile import summarize

layers = keras.layers


def event(name, kind, us=0, index=0):
    return {"name": name, "kind": kind, "us": us, "index": index}


END = event("Invoke", 32, 2**32)
SETUP = event("LiteRT::Run[buffer registration]", 1, 80)


def run(*operators, us=20):
    return [SETUP, event("Invoke", 1, us), *operators, END, event("LiteRT::Run[Buffer sync]", 1, 14)]


@pytest.fixture(scope="module")
def mixed_file(tmp_path_factory):
    """Conv3D, which XNNPACK does not run, and a layer that it runs; with an open batch."""
    frames = keras.Input((4, 6, 6, 1))
    model = keras.Model(frames, layers.Dense(3)(layers.Flatten()(layers.Conv3D(4, 2)(frames))))
    path = tmp_path_factory.mktemp("mixed") / "mixed net.tflite"
    model.export(str(path), format="litert", verbose=False)
    assert Model(path).inputs[model.inputs[0].name].shape[0] is None
    return path


def test_operators_of_litert_and_kernels_of_xnnpack(mixed_file):
    found = profile_file(mixed_file, num_runs=4, num_threads=2)
    own = [one.name for one in found.operators if not one.is_xnnpack]
    assert "CONV_3D" in own
    assert any(one.name.startswith("Fully Connected") for one in found.operators if one.is_xnnpack)
    assert found.num_runs == 4
    assert 0 < sum(one.mean_us for one in found.operators) <= found.mean_us


def test_several_inputs_and_token_ids(pair_file, tmp_path):
    """Inputs that are not filled would have ids beyond the table, which LiteRT refuses."""
    (tmp_path / "pair.tflite").write_bytes(pair_file)
    assert "GATHER" in profile_file(tmp_path / "pair.tflite", num_runs=2).by_name()


def test_a_loop_has_the_time_of_what_it_repeats(export_bytes, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3)])
    (tmp_path / "lstm.tflite").write_bytes(export_bytes(model))
    found = profile_file(tmp_path / "lstm.tflite", num_runs=2)
    names = [one.name for one in found.operators]
    assert names.count("WHILE") == 1 and "LESS" not in names
    assert next(iter(found.by_name())) == "WHILE"


def test_the_mean_of_all_runs():
    runs = [run(event("CONV_2D", 2, us), event("Add (ND)", 8, 1), us=10 * us) for us in (2, 4, 9)]
    found = summarize(runs)
    assert [(one.name, one.is_xnnpack, one.mean_us) for one in found.operators] == [
        ("CONV_2D", False, 5.0),
        ("Add (ND)", True, 1.0),
    ]
    assert (found.mean_us, found.num_runs) == (50.0, 3)


def test_kinds_are_summed_and_sorted():
    found = summarize([run(event("ADD", 2, 3), event("MUL", 2, 4), event("ADD", 2, 5))])
    assert list(found.by_name().items()) == [("ADD", (2, 8.0)), ("MUL", (1, 4.0))]


def test_inner_graphs_belong_to_their_operator():
    inner = [event("Invoke", 1, 5), event("LESS", 2, 1), END]
    found = summarize([run(event("WHILE", 2, 12), *inner, *inner, event("ADD", 2, 1))])
    assert [one.name for one in found.operators] == ["WHILE", "ADD"]
    assert found.mean_us == 20.0


@pytest.mark.parametrize(
    "runs",
    [
        [[]],
        [[SETUP]],
        [run(event("ADD", 2))[:-2]],
        [run(event("ADD", 2)), run(event("MUL", 2))],
        [run(event("ADD", 2)), run()],
    ],
    ids=["nothing", "no_run", "no_end", "other_operators", "fewer_operators"],
)
def test_runs_that_are_incomplete_or_differ_are_an_error(runs):
    with pytest.raises(ValueError, match="events|differ"):
        summarize(runs)


def test_a_damaged_file_and_a_missing_one(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(200))
    for name in ("bad.tflite", "none.tflite"):
        with pytest.raises(ConfigurationError, match="LiteRT's profiler does not load the file"):
            profile_file(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "LiteRT's profiler crashed on the file (SIGABRT)"),
        ("raise RuntimeError('LiteRtCreateOptions failed with status 1.')", "LiteRtCreateOptions failed"),
        ("print('nothing')", "gave no usable answer"),
        ("print('[[]]')", "gave no usable answer"),
        ("print('[]')", "gave no usable answer"),
        ("import time; time.sleep(1000)", "was not finished after 1 s"),
    ],
)
def test_a_profiler_that_fails_is_a_readable_error(monkeypatch, tmp_path, code, message):
    """As in a later version of LiteRT, whose library may differ."""
    script = tmp_path / "child.py"
    script.write_text(code)
    monkeypatch.setattr(profile, "_SCRIPT", script)
    with pytest.raises(ConfigurationError) as error:
        profile_file("net.tflite", timeout_s=1 if "sleep" in code else 60)
    assert message in str(error.value)


@pytest.mark.parametrize("options", [{"num_threads": 0}, {"num_runs": 0}, {"open_size": 1.5}, {"timeout_s": 0}])
def test_settings_out_of_range(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        profile_file("net.tflite", **options)


def test_the_whole_time_agrees_with_the_interpreter(export_bytes, tmp_path):
    """A net of one dense layer of 8 million multiply-adds: most of the run is that layer."""
    model = keras.Sequential([keras.Input((64, 256)), layers.Dense(512, use_bias=False)])
    (tmp_path / "dense.tflite").write_bytes(export_bytes(model, samples=np.zeros((1, 64, 256), "float32")))
    found = profile_file(tmp_path / "dense.tflite", num_runs=5)
    name, (count, us) = next(iter(found.by_name().items()))
    assert name.startswith("Fully Connected") and count == 1
    assert us > 0.5 * found.mean_us
