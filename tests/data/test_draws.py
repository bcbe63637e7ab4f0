"""Draws against SplitMix64 in Python integers, and against the distributions they sample."""

import hashlib
import json
import os
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from keras_kd.data.draws import Draws, splitmix64
from keras_kd.errors import ConfigurationError

LIKELY = 1e-3  # significance level: a fair generator passes 999 times in 1,000
METHODS = {
    "bits": lambda draws: draws.bits("n", (3,)),
    "uniform": lambda draws: draws.uniform("n", (2, 5)),
    "integers": lambda draws: draws.integers("n", 1000),
    "normal": lambda draws: draws.normal("n", (7, 3)),
    "beta": lambda draws: draws.beta("n", 0.3),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def ids(count=64, start=0):
    return np.arange(start, start + count)


def test_splitmix64_gives_its_published_numbers():
    """The output of the generator's C code for seed 1234567, as in published test vectors."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    np.testing.assert_array_equal(splitmix64(np.array([1234567], np.uint64), 5), [expected])


def oracle(seed, example, view, name, counter):
    """The number of one draw, in arbitrary-precision integers."""
    whole = 2**64

    def finalise(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % whole
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % whole
        return z ^ (z >> 31)

    key = hashlib.blake2b(f"{seed}:{view}:{name}".encode(), digest_size=8).digest()
    state = finalise(int.from_bytes(key, "little") ^ (example % whole))
    return finalise((state + (counter + 1) * 0x9E3779B97F4A7C15) % whole)


def test_a_draw_is_the_formula():
    draws = Draws(2**32 - 1, [0, 7, 2**62, -1], view=3).under("1")
    expected = [[oracle(2**32 - 1, i, 3, "1/top", c) for c in range(6)] for i in [0, 7, 2**62, -1]]
    np.testing.assert_array_equal(draws.bits("top", (2, 3)).reshape(4, 6), np.array(expected, np.uint64))
    shifted = [[(number >> 11) / 2**53 for number in row] for row in expected]
    np.testing.assert_array_equal(draws.uniform("top", (6,)), shifted)


@every_method
@pytest.mark.parametrize("size", [1, 3, 5, 16])
def test_a_draw_is_the_same_in_any_batch_and_order(method, size):
    whole = method(Draws(5, ids(), view=2))
    order = np.random.default_rng(size).permutation(64)
    for start in range(0, 64, size):
        part = order[start : start + size]
        np.testing.assert_array_equal(method(Draws(5, part, view=2)), whole[part])


def digests():
    values = {name: method(Draws(5, ids(), 2)) for name, method in METHODS.items()}
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in values.items()}


def test_a_draw_is_the_same_in_a_process_without_vector_instructions():
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    env = {**os.environ, "PYTHONHASHSEED": "1", "NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    code = f"import json, runpy; print(json.dumps(runpy.run_path({__file__!r})['digests']()))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == digests()


# Independence of streams.


@every_method
def test_every_part_of_the_identity_counts(method):
    value = method(Draws(5, ids(), 2))
    others = [Draws(6, ids(), 2), Draws(5, ids(start=64), 2), Draws(5, ids(), 3), Draws(5, ids(), 2).under("a")]
    for other in others:
        assert (method(other) == value).mean() < 0.02


PAIRS = {
    "ids": (Draws(0, ids(40_000), 0), Draws(0, ids(40_000, 1), 0)),
    "far ids": (Draws(0, ids(40_000), 0), Draws(0, ids(40_000, 2**32), 0)),
    "views": (Draws(0, ids(40_000), 0), Draws(0, ids(40_000), 1)),
    "seeds": (Draws(0, ids(40_000), 0), Draws(1, ids(40_000), 0)),
    "seed and view exchanged": (Draws(0, ids(40_000), 1), Draws(1, ids(40_000), 0)),
    "paths": (Draws(0, ids(40_000), 0).under("0"), Draws(0, ids(40_000), 0).under("1")),
}


def assert_independent(first, second):
    counts, _, _ = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])
    assert stats.chisquare(counts.ravel()).pvalue > LIKELY
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_neighbors_are_independent(one, other):
    assert_independent(one.uniform("n"), other.uniform("n"))


def test_names_and_places_are_independent():
    draws = Draws(0, ids(40_000), 0)
    assert_independent(draws.uniform("a"), draws.uniform("b"))
    assert_independent(*draws.uniform("a", (2,)).T)


def test_a_stream_under_a_name_nests():
    draws = Draws(5, ids(), 2)
    assert draws.under("a").path != draws.path
    np.testing.assert_array_equal(draws.under("a").under("b").uniform("c"), draws.under("a/b").uniform("c"))


# The distributions.


def test_every_bit_is_fair():
    bits = np.unpackbits(Draws(0, ids(20_000), 0).bits("n").view(np.uint8)).reshape(20_000, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize(
    "values",
    [Draws(0, ids(50_000), 0).uniform("n"), Draws(0, [9], 0).uniform("n", (50_000,))[0]],
    ids=["ids", "places"],
)
def test_uniform_is_uniform(values):
    assert values.dtype == np.float64 and values.min() >= 0 and values.max() < 1
    assert stats.chisquare(np.histogram(values, bins=100, range=(0, 1))[0]).pvalue > LIKELY


def test_integers_are_uniform_and_reach_both_ends():
    values = Draws(0, ids(50_000), 0).integers("n", 7)
    assert values.dtype == np.int64 and stats.chisquare(np.bincount(values, minlength=7)).pvalue > LIKELY


def test_each_example_may_have_a_bound_of_its_own():
    high = np.arange(1, 2001)
    values = Draws(0, ids(2000), 0).integers("n", high)
    assert values[0] == 0 and (values < high).all() and (values[1000:] / high[1000:]).max() > 0.99
    top = Draws(0, ids(2000), 0).integers("n", 2**53)
    assert top.max() < 2**53 and top.max() > 0.99 * 2**53


def test_normal_is_normal():
    values = Draws(0, ids(64), 0).normal("n", (1000,))
    assert values.dtype == np.float32 and values.shape == (64, 1000)
    values = values.ravel().astype("float64")
    assert stats.kstest(values, "norm").pvalue > LIKELY
    bound = 4 / np.sqrt(values.size)
    assert abs(values.mean()) < bound and abs(values.var() - 1) < 2**0.5 * bound
    assert abs(stats.skew(values)) < 6**0.5 * bound and abs(stats.kurtosis(values)) < 24**0.5 * bound


class ExtremeBits(Draws):
    """The lowest and the highest draw, and two in the middle."""

    def bits(self, name, shape=()):
        return np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)


@pytest.mark.parametrize("draws", [Draws(0, ids(2000), 0), ExtremeBits(0, ids(4), 0)], ids=["typical", "extreme"])
def test_a_normal_is_the_quantile_of_its_bits(draws):
    shares = [(int(bits) // 2**12 + 0.5) / 2**52 for bits in draws.bits("n")]
    expected = np.float32([NormalDist().inv_cdf(share) for share in shares])
    np.testing.assert_array_max_ulp(draws.normal("n"), expected, maxulp=1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_the_moments_of_beta(alpha):
    values = Draws(0, ids(5000), 0).beta("n", alpha)
    variance = 1 / (4 * (2 * alpha + 1))
    assert values.dtype == np.float64 and values.min() >= 0 and values.max() <= 1
    assert abs(values.mean() - 0.5) < 4 * np.sqrt(variance / 5000)
    assert values.var() == pytest.approx(variance, rel=0.05)
    fourth = ((values - 0.5) ** 4).mean() / variance**2 - 3
    assert fourth == pytest.approx(-6 / (2 * alpha + 3), abs=0.15)


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_beta_is_finite_at_any_alpha(alpha):
    assert np.isfinite(Draws(0, ids(1000), 0).beta("n", alpha)).all()


# Errors.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Draws(-1, [0], 0), "Invalid 'seed'. Received: -1."),
        (lambda: Draws(0, [0.5], 0), r"Invalid 'ids'. Received: float64 of shape \(1,\)."),
        (lambda: Draws(0, 3, 0), r"Received: int64 of shape \(\). Expected: whole numbers \[b\]"),
        (lambda: Draws(0, [0], 0.5), "Invalid 'view'. Received: 0.5."),
        (lambda: Draws(0, [0], -1), "Invalid 'view'. Received: -1."),
        (lambda: Draws(0, [0], 0).integers("n", 0), "Invalid 'high'. Received: array\\(0\\)."),
        (lambda: Draws(0, [0], 0).integers("n", 2.0), "Expected: a whole number, 1 <= high <= 2\\^53, or 1 of them"),
        (lambda: Draws(0, [0, 1], 0).integers("n", [1, 2, 3]), "or 2 of them, one for each example"),
        (lambda: Draws(0, [0], 0).beta("n", 0.0), "Invalid 'alpha'. Received: 0.0."),
    ],
)
def test_errors_state_what_was_received_and_expected(make, words):
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_a_batch_may_be_empty():
    draws = Draws(0, [], 0)
    assert [len(method(draws)) for method in METHODS.values()] == [0] * 5
