"""Encoded weights: exactly the same after decoding, and as small as Deep Compression counts."""

import numpy as np
import pytest

from keras_kd.compression.coding.weights import decode_weight, encode_weight

RNG = np.random.default_rng(0)
CODEBOOK = RNG.normal(0, 0.1, 16).astype("float32")


def clustered(*shape):
    return CODEBOOK[RNG.integers(16, size=shape)]


def sparse(value, kept):
    return np.where(RNG.random(value.shape) < kept, value, 0).astype("float32")


WEIGHTS = {
    "float": RNG.normal(size=(30, 20)),
    "half": RNG.normal(size=(30, 20)).astype("float16"),
    "bias": np.zeros(10),
    "number": np.array(0.5),
    "empty": np.zeros((0, 4)),
    "clustered": clustered(3, 3, 8, 16),
    "sparse": sparse(RNG.normal(size=(100, 30)), 0.1),
    "sparse and clustered": sparse(clustered(300, 100), 0.08),
    "far apart": sparse(clustered(300, 100), 0.0005),
    "last one": np.eye(1, 5000, 4999),
    "zeros with a sign": np.array([-0.0, 0.0, 1.0] * 50),
    "not numbers": np.array([np.nan, np.inf, -np.inf, 0.0] * 20),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_round_trip(name):
    value = np.asarray(WEIGHTS[name], "float32")
    data = encode_weight(WEIGHTS[name])
    found = decode_weight(data)
    assert found.shape == value.shape and found.tobytes() == value.tobytes()
    assert len(data) <= value.nbytes + 2 + 4 * value.ndim


def test_clustered_takes_bits_of_the_entropy():
    value = clustered(200, 100)
    assert len(encode_weight(value)) / value.size * 8 == pytest.approx(4, abs=0.1)


def test_sparse_and_clustered_is_as_in_the_paper():
    """8% of 16 values: 4 bits for the value and about 5 for the gap of each, a fortieth of float32."""
    value = sparse(clustered(784, 300), 0.08)
    data = encode_weight(value)
    gap = -(0.92 * np.log2(0.92) + 0.08 * np.log2(0.08)) / 0.08  # entropy of a geometric distribution
    expected = (value != 0).sum() * (4 + gap) / 8
    assert expected < len(data) < 1.05 * expected
    assert value.nbytes / len(data) > 40


@pytest.mark.parametrize("size", [1, 31, 32, 33, 255, 256, 257, 511, 512, 513, 5000])
def test_gaps_of_any_length(size):
    for before in (size, 0):
        value = np.zeros(before + size + 2, "float32")
        value[before] = value[-1] = 0.25
        np.testing.assert_array_equal(decode_weight(encode_weight(value)), value)
