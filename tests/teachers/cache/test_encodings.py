"""Encodings of stored outputs, against float64 NumPy."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.teachers.cache.encodings import Rows, TopK, from_config


def records(encoding, values, view=0):
    record = np.empty(len(values), encoding.fields)
    for name, field in encoding.encode(values, Draws(0, np.arange(len(values)), view)).items():
        record[name] = field
    return record


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 4, (50, 40)).astype("float32")


@pytest.mark.parametrize("encoding", [Rows((40,)), TopK(5, 40), TopK(5, 40, "renormalized"), TopK(5, 40, "sampled")])
def test_config_round_trip(encoding):
    assert from_config(encoding.get_config()) == encoding
    assert encoding.num_bytes == np.dtype(encoding.fields).itemsize


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-11), ("float32", 0)])
def test_rows(logits, dtype, tolerance):
    encoding = Rows((40,), dtype)
    np.testing.assert_allclose(encoding.decode(records(encoding, logits)), logits, rtol=tolerance)
    maps = np.random.default_rng(0).random((3, 4, 4, 2), "float32")
    np.testing.assert_allclose(Rows((4, 4, 2)).decode(records(Rows((4, 4, 2)), maps)), maps, rtol=2**-11)


@pytest.mark.parametrize(("remainder", "temperature"), [("uniform", 1), ("uniform", 4), ("renormalized", 4)])
def test_top_k_gives_the_documented_distribution(logits, remainder, temperature):
    """The kept classes keep their logits; the others share their mass at temperature 1, or get none."""
    encoding = TopK(5, 40, remainder)
    decoded = encoding.decode(records(encoding, logits))
    wide = logits.astype(np.float64)
    expected = np.empty_like(wide)
    for row, values in enumerate(wide):
        order = np.argsort(-values)
        rest = logsumexp(values[order[5:]]) - np.log(35) if remainder == "uniform" else -np.inf
        expected[row] = rest
        expected[row, order[:5]] = values[order[:5]]
    got, wanted = softmax(decoded.astype(np.float64) / temperature, -1), softmax(expected / temperature, -1)
    np.testing.assert_allclose(got, wanted, rtol=0.02, atol=1e-12)  # float16 holds a logit of 16 to 0.008
    if remainder == "uniform":
        mass = np.sort(softmax(wide, -1), -1)[:, :-5].sum(-1)
        kept = np.sort(softmax(decoded.astype(np.float64), -1), -1)[:, :-5].sum(-1)
        np.testing.assert_allclose(kept, mass, rtol=0.02)


def test_sampling_is_unbiased(logits):
    """The mean over many independent draws is the teacher's distribution at the sampling temperature."""
    row = np.repeat(logits[:1] / 4, 20_000, axis=0)
    encoding = TopK(10, 40, "sampled", temperature=2.0)
    decoded = encoding.decode(records(encoding, row)).astype(np.float64)
    shares = softmax(decoded / 2.0, -1)
    expected = softmax(row[0].astype(np.float64) / 2.0)
    deviation = np.sqrt(expected * (1 - expected) / (10 * len(row)))
    assert (np.abs(shares.mean(0) - expected) < 5 * deviation + 1e-6).all()
    # The shares of each example are whole tenths that sum to 1.
    np.testing.assert_allclose(shares * 10, np.round(shares * 10), atol=1e-3)


def test_sampling_is_reproducible(logits):
    encoding = TopK(10, 40, "sampled")
    first, again, other = (records(encoding, logits, view) for view in (0, 0, 1))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("num_classes", "k", "remainder", "num_bytes"),
    [(10, None, None, 20), (100, 10, "uniform", 32), (1000, 10, "uniform", 42), (1000, 100, "uniform", 402),
     (1000, 10, "renormalized", 40), (1000, 50, "sampled", 150), (70_000, 10, "uniform", 62)],
)  # fmt: skip
def test_bytes_per_example(num_classes, k, remainder, num_bytes):
    encoding = Rows((num_classes,)) if k is None else TopK(k, num_classes, remainder)
    assert encoding.num_bytes == num_bytes


def test_ties_and_saturated_rows():
    logits = np.array([[0.0, 0.0, 0.0, 0.0], [60.0, -60.0, -60.0, -60.0]], np.float32)
    decoded = TopK(2, 4).decode(records(TopK(2, 4), logits))
    np.testing.assert_allclose(decoded, logits, atol=1e-3)
    np.testing.assert_allclose(log_softmax(decoded, -1), log_softmax(logits, -1), atol=1e-3)


def test_invalid_settings_and_values_are_rejected(logits):
    with pytest.raises(ConfigurationError, match="1 <= top_k <= 39"):
        TopK(40, 40)
    with pytest.raises(ConfigurationError, match="'uniform', 'renormalized', 'sampled'"):
        TopK(4, 40, "spread")
    with pytest.raises(ConfigurationError, match="float16"):
        Rows((4,), "int8")
    logits[3, 1] = np.nan
    for encoding in (Rows((40,)), TopK(3, 40), TopK(3, 40, "sampled")):
        with pytest.raises(TeacherError, match="1 of 50 examples, the first at row 3"):
            records(encoding, logits)
    with pytest.raises(TeacherError, match='up to 1e\\+06.*dtype="float32"'):
        records(Rows((1,)), np.array([[1e6]], np.float32))
