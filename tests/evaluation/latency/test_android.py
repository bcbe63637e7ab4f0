"""The commands for a phone. No phone was here: flags are compared with the binary's documentation."""

import dataclasses
import shlex

import keras
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import android_commands
from keras_kd.evaluation.latency import android
from keras_kd.litert import Signature, read_file

TOOL = "/data/local/tmp/android_aarch64_benchmark_model"


@pytest.fixture(scope="module")
def plain_content(export_bytes):
    return export_bytes(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))


@pytest.fixture
def put(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content, name="net.tflite"):
        (tmp_path / name).write_bytes(content)
        return name

    return write


def test_the_cpu(put, plain_content):
    push, run = android_commands(put(plain_content), num_threads=2, num_runs=80)
    assert push == "adb push net.tflite /data/local/tmp/net.tflite"
    options = "--graph=/data/local/tmp/net.tflite --num_threads=2 --num_runs=80 --use_xnnpack=true"
    assert run == f"adb shell {TOOL} {options}"


def test_the_gpu(put, plain_content):
    _, run = android_commands(put(plain_content), use_gpu=True)
    assert run.endswith("--num_threads=4 --num_runs=50 --use_gpu=true") and "xnnpack" not in run


def test_token_ids_stay_in_their_table(put, pair_file):
    """Names do not matter to the binary; shapes are in the order of the graph's inputs."""
    _, run = android_commands(put(pair_file))
    options = dict(one.split("=", 1) for one in shlex.split(run) if one.startswith("--"))
    shapes = options["--input_layer_shape"].split(":")
    assert sorted(shapes) == ["1,3", "1,4"] and options["--input_layer"] == "input0,input1"
    assert options["--input_layer_value_range"] == f"input{shapes.index('1,3')},0,49"


def test_open_dimensions_get_a_size(put, plain_content, monkeypatch):
    file = read_file(plain_content)
    graph = file.graphs[0]
    tensors = list(graph.tensors)
    tensors[graph.inputs[0]] = dataclasses.replace(tensors[graph.inputs[0]], name="a:b,c", open_shape=(None, None, 4))
    opened = dataclasses.replace(file, graphs=(dataclasses.replace(graph, tensors=tuple(tensors)),))
    monkeypatch.setattr(android, "read_file", lambda path: opened)
    _, run = android_commands(put(plain_content), open_size=9)
    assert run.endswith("--input_layer=input0 --input_layer_shape=1,9,4")


def test_of_several_signatures_that_of_the_main_graph_is_run(put, plain_content, monkeypatch):
    file = read_file(plain_content)
    signatures = (Signature("other", 1, {}, {}), dataclasses.replace(file.signatures[0], key="my main"))
    monkeypatch.setattr(android, "read_file", lambda path: dataclasses.replace(file, signatures=signatures))
    _, run = android_commands(put(plain_content))
    command = shlex.split(run)[2]  # one argument of adb, which the phone's shell takes apart
    assert shlex.split(command)[-1] == "--signature_to_run_for=my main"


def test_names_that_a_shell_would_take_apart(put, plain_content):
    name = put(plain_content, "it's $(my) net;.tflite")
    push, run = android_commands(name)
    assert shlex.split(push) == ["adb", "push", name, "/data/local/tmp/it_s___my__net_.tflite"]
    assert "--graph=/data/local/tmp/it_s___my__net_.tflite" in shlex.split(run)


@pytest.mark.parametrize("options", [{"num_threads": 0}, {"num_runs": 0}, {"open_size": 0}])
def test_numbers_out_of_range(put, plain_content, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        android_commands(put(plain_content), **options)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        android_commands(tmp_path / "none.tflite")
