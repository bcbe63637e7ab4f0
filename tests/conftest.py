import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_kd as kd

sys.path.append(str(Path(__file__).parent))  # for helpers shared by several tests
import processes  # noqa: E402

layers = keras.layers


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    """All 1,797 digits `[n, 8, 8, 1]` in 0..1, and their labels."""
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int64")


@pytest.fixture
def make_model():
    """Builds a small digits classifier."""

    def make(width=4, activation=None, *, dropout=0.0, norm=False, **settings):
        body = [keras.Input((8, 8, 1)), layers.Conv2D(width, 3, strides=2)]
        body += [layers.BatchNormalization()] if norm else []
        body += [layers.ReLU(), layers.Flatten()]
        body += [layers.Dropout(dropout)] if dropout else []
        return keras.Sequential([*body, layers.Dense(10, activation=activation, **settings)])

    return make


@pytest.fixture
def start():
    """Starts a process: `start(*command, cwd=..., env=...)` returns a `processes.Child`, which ends with the test."""
    with processes.children() as start:
        yield start


@pytest.fixture(scope="module")
def start_once():
    """`start` for processes shared by the tests of a module."""
    with processes.children() as start:
        yield start


# Small LiteRT files.


@pytest.fixture(scope="session")
def export_bytes(tmp_path_factory):
    """A function of a model and `export_tflite`'s options that returns the content of the exported file."""

    def export(model, **options):
        path = tmp_path_factory.mktemp("litert") / "net.tflite"
        kd.export.export_tflite(model, path, isolate=False, **options)
        return path.read_bytes()

    return export


@pytest.fixture(scope="session")
def pair():
    """A model with two inputs, image features and token ids, and two outputs."""
    keras.utils.set_random_seed(0)
    features, ids = keras.Input((4,), name="features"), keras.Input((3,), dtype="int32", name="ids")
    both = layers.Concatenate()([layers.Dense(5)(features), layers.Flatten()(layers.Embedding(50, 2)(ids))])
    outputs = {"scores": layers.Dense(3)(both), "chance": layers.Dense(1, activation="sigmoid")(both)}
    return keras.Model([features, ids], outputs)


@pytest.fixture(scope="session")
def pair_inputs():
    generator = np.random.default_rng(0)
    return {
        "features": generator.normal(size=(7, 4)).astype("float32"),
        "ids": generator.integers(0, 50, (7, 3)),
    }


@pytest.fixture(scope="session")
def pair_file(pair, pair_inputs, export_bytes):
    return export_bytes(pair, samples=pair_inputs)


@pytest.fixture(scope="session")
def damaged():
    """A function of a file's content and a `random.Random`."""

    def damaged(content, rng, *, shifting=True):
        """A copy with some bytes changed and, if `shifting`, cut out or repeated, or without its end."""
        content = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 5, 30])):
            kind, place, size = (
                rng.randrange(4 if shifting else 2),
                rng.randrange(8, len(content) - 64),
                rng.randrange(1, 64),
            )
            if kind == 0:
                content[place] = rng.randrange(256)
            elif kind == 1:
                place &= ~3
                number = rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**31, rng.randrange(2**16)])
                content[place : place + 4] = number.to_bytes(4, "little")
            elif kind == 2:
                content[place : place + size] = b""
            else:
                content[place:place] = content[place : place + size]
        end = rng.randrange(8, len(content)) if shifting and rng.random() < 0.2 else len(content)
        return bytes(content[:end])

    return damaged
