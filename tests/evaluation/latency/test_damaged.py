"""Damaged files: each ends in numbers or in one readable error, and never in a crash or a hang of the caller."""

import random

import keras
import numpy as np
import pytest

from keras_kd.evaluation import benchmark_models

_AT_ONCE = 10  # the children of that many files are alive at the same time


@pytest.fixture(scope="module")
def contents(pair_file, export_bytes):
    keras.utils.set_random_seed(0)
    parts = [keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(16)]  # mostly weights
    conv = keras.Sequential([keras.Input((6, 6, 2)), *parts])
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 2))
    loop = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(24)])
    return [pair_file, export_bytes(conv, format="int8", calibration=images), export_bytes(loop)]


def attack(contents, damaged, folder, *, number, seed, **options):
    """Benchmarks damaged files; returns how many were measured, and the errors."""
    rng, measured, errors = random.Random(seed), 0, []
    for start in range(0, number, _AT_ONCE):
        files = [folder / f"{place}.tflite" for place in range(start, min(number, start + _AT_ONCE))]
        for file in files:
            file.write_bytes(damaged(rng.choice(contents), rng, shifting=rng.random() < 0.3))
        settings = {"rounds": 1, "warmup": 0, "min_runs": 2, "min_seconds": 0.0, "progress": False}
        found = benchmark_models(files, **settings, cross_check=False, timeout_s=10.0, **options)
        assert str(found).count("1 thread") == 0 and found.to_dict()
        assert {one.name for one in found.speeds} | set(found.failures) == {str(file) for file in files}
        measured += len(found.speeds)
        errors += found.failures.values()
    return measured, errors


def check(errors):
    for error in errors:
        assert 10 < len(error) < 1000 and "\n" not in error and "Traceback" not in error, error


def test_a_few_damaged_files(contents, damaged, tmp_path):
    measured, errors = attack(contents, damaged, tmp_path, number=24, seed=1, profile=False)
    check(errors)
    assert measured and len(errors) == 24 - measured


@pytest.mark.long
def test_hundreds_of_damaged_files(contents, damaged, tmp_path):
    """A third of them is damaged in a way that only LiteRT finds, or that changes nothing but numbers."""
    measured, errors = attack(contents, damaged, tmp_path, number=200, seed=2, profile=False)
    check(errors)
    assert measured > 20 and len(errors) > 40


@pytest.mark.long
def test_damaged_files_with_a_profile(contents, damaged, tmp_path):
    measured, errors = attack(contents, damaged, tmp_path, number=40, seed=3, profile=True)
    check(errors)
    assert measured
