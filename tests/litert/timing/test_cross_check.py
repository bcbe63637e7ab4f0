"""LiteRT's own benchmark beside ours."""

import importlib.util
import json

import keras
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert.timing import cross_check, litert_benchmark


@pytest.fixture(scope="module")
def dense_file(export_bytes, tmp_path_factory):
    path = tmp_path_factory.mktemp("dense") / "dense.tflite"
    path.write_bytes(export_bytes(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])))
    return path


def test_the_real_one(dense_file):
    found = litert_benchmark(dense_file, num_runs=7)
    assert found.num_runs == 7
    assert found.load_ms > 0 and found.p50_ms >= 0


def test_a_file_that_it_cannot_run(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(200))
    with pytest.raises(ConfigurationError, match="litert-benchmark does not load the file"):
        litert_benchmark(tmp_path / "bad.tflite")


def test_it_may_be_absent(monkeypatch, dense_file):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="not part of the installed ai-edge-litert"):
        litert_benchmark(dense_file)


def test_it_may_not_end(dense_file):
    with pytest.raises(ConfigurationError, match="not finished after 0.01 s"):
        litert_benchmark(dense_file, timeout_s=0.01)


def test_its_numbers_are_those_of_its_json():
    text = '{"latency": {"init_ms": 1.25, "warmup_first_ms": 0.5, "median_ms": 0.25, "num_runs": 50, "std_ms": 9}}'
    assert cross_check._read(json.loads(text)) == cross_check.CrossCheck(1.25, 0.5, 0.25, 50)
