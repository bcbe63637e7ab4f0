"""Huffman codes: decodable, and as short as the entropy allows."""

import itertools
import math

import numpy as np
import pytest

from keras_kd.compression.coding import huffman
from keras_kd.errors import ConfigurationError

RNG = np.random.default_rng(0)
FIBONACCI = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181, 6765, 10946]


def sequences():
    yield "empty", []
    yield "one", [7]
    yield "all equal", [3] * 1000
    yield "two", [0, 65535] * 10 + [0]
    yield "uniform", RNG.integers(0, 256, 5000)
    yield "skewed", RNG.geometric(0.3, 5000)
    yield "long codes", np.repeat(np.arange(len(FIBONACCI)), FIBONACCI)
    yield "every symbol", np.arange(2**16)


CASES = dict(sequences())


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    symbols = np.array(CASES[name], "int64")
    data = huffman.encode(symbols)
    found, used = huffman.decode(data + b"what follows")
    assert used == len(data)
    np.testing.assert_array_equal(found, symbols)


@pytest.mark.parametrize("name", ["two", "uniform", "skewed", "long codes"])
def test_within_a_bit_of_the_entropy(name):
    symbols = np.array(CASES[name])
    _, counts = np.unique(symbols, return_counts=True)
    lengths = huffman.code_lengths(dict(enumerate(counts.tolist())))
    mean = sum(lengths[i] * count for i, count in enumerate(counts)) / len(symbols)
    entropy = -sum(c / len(symbols) * math.log2(c / len(symbols)) for c in counts)
    assert entropy <= mean < entropy + 1
    assert sum(2.0**-length for length in lengths.values()) == 1.0  # Kraft: no code is wasted
    assert len(huffman.encode(symbols)) == 10 + 3 * len(counts) + math.ceil(mean * len(symbols) / 8 - 1e-9)


def test_no_shorter_prefix_code_exists():
    """Among all lengths of up to 4 bits that satisfy Kraft's inequality."""
    for _ in range(20):
        counts = RNG.integers(1, 30, 5)
        ours = huffman.code_lengths(dict(enumerate(counts.tolist())))
        best = min(
            sum(counts * np.array(lengths))
            for lengths in itertools.product(range(1, 5), repeat=5)
            if sum(2.0 ** -np.array(lengths)) <= 1
        )
        assert sum(counts[i] * ours[i] for i in range(5)) == best


def test_codes_are_free_of_prefixes():
    lengths = huffman.code_lengths(dict(enumerate([5, 9, 12, 13, 16, 45])))
    codes = [f"{code:0{lengths[symbol]}b}" for symbol, code in huffman.canonical_codes(lengths).items()]
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)


def test_symbols_out_of_range():
    for symbols in ([-1], [65536]):
        with pytest.raises(ConfigurationError, match="cannot be coded"):
            huffman.encode(np.array(symbols))
