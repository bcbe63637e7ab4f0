"""Damaged files are inspected or refused: no other error, nothing that does not end, no output without bounds."""

import json
import random

import keras
import pytest
from handmade import model, serialized, tensor

from keras_kd.errors import ConfigurationError
from keras_kd.litert.inspection import inspect_tflite

layers = keras.layers


@pytest.fixture(scope="module")
def contents(export_bytes, int4_file):
    """Float, int8 and float16 files of a net with common operators, int4 weights, control flow and signatures."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2DTranspose(3, 2)(layers.DepthwiseConv2D(2)(layers.Conv2D(4, 3, activation="relu")(image)))
    net = keras.Model(image, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    samples = keras.random.normal((8, 6, 6, 2), seed=0)
    exported = [export_bytes(net, format=form, calibration=samples) for form in ("float32", "float16", "int8")]
    body = (
        [tensor("a", [2, 4]), tensor("k", [4, 4], data=bytes(64))],
        [("FULLY_CONNECTED", [0, 1, -1], [0])],
        [0],
        [0],
    )
    loop = [("WHILE", [0], [0], ("WhileOptions", {"condSubgraphIndex": 0, "bodySubgraphIndex": 1}))]
    names = [("run", 0, {"a": 0}, {"b": 0}), ("step", 1, {"a": 0}, {"b": 0})]
    made = model([tensor("a", [2, 4])], loop, more_graphs=[body], signatures=names, metadata=[("note", b"text")])
    blocks = tensor("k", [2, 64], dtype="INT4", data=bytes(64), blocks=(2, -1, 32))
    scales = tensor("scales", [2, 2], dtype="FLOAT16", data=bytes(8))
    by_blocks = model(
        [tensor("a", [1, 64]), blocks, scales, tensor("b", [1, 2])], [("FULLY_CONNECTED", [0, 1, -1], [3])]
    )
    return [*exported, int4_file, serialized(made), serialized(by_blocks)]


def inspected(content):
    """Whether a file could be inspected; everything that can be shown of it is made."""
    try:
        inspection = inspect_tflite(content)
    except ConfigurationError as error:
        assert "damaged" in str(error) or "is not a LiteRT" in str(error)
        return False
    lines = str(inspection).splitlines()
    assert [line for line in lines if len(line) > 100] == [] and len(lines) < 1500
    assert all(len(inspection.svg(graph=number)) < 5_000_000 for number in range(min(3, len(inspection.graphs))))
    assert len(json.dumps(inspection.as_dict(), allow_nan=False)) < 500 * len(content) + 10_000
    return True


def run(contents, damaged, count):
    rng = random.Random(count)
    return sum(inspected(damaged(rng.choice(contents), rng, shifting=number % 3 == 0)) for number in range(count))


def test_damaged_files(contents, damaged):
    assert all(map(inspected, contents))
    assert 20 < run(contents, damaged, 200) < 180


@pytest.mark.long
def test_ten_thousand_damaged_files(contents, damaged):
    assert 1000 < run(contents, damaged, 10_000) < 9000
