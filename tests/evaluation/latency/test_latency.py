"""Ratios between models that took turns."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.latency.latency import ratio, summarize_times


def test_a_ratio_is_that_of_each_round():
    """The machine is ten times slower in the second round; pooled medians would hide that the ratio is 2 in each."""
    first = summarize_times([[0.001, 0.001, 0.009], [0.010], [0.002]])
    second = summarize_times([[0.002], [0.020], [0.004, 0.004]])
    assert (ratio(second, first).low, ratio(second, first).high) == pytest.approx((2.0, 2.0))
    assert ratio(first, first).median == 1.0


def test_the_spread_is_that_of_the_rounds():
    first = summarize_times([[0.001]] * 5)
    found = ratio(summarize_times([[seconds] for seconds in (0.003, 0.001, 0.002, 0.009, 0.002)]), first)
    assert (found.median, found.low, found.high) == pytest.approx((2.0, 1.0, 9.0))
    assert str(found) == "2.00x (1.00 to 9.00)"


def test_models_without_common_rounds_have_no_ratio():
    with pytest.raises(ConfigurationError, match="2 and 1 rounds"):
        ratio(summarize_times([[1.0], [1.0]]), summarize_times([[1.0]]))


def test_rounds_keep_their_medians_and_all_runs_are_pooled():
    rounds = [np.random.default_rng(seed).gamma(2.0, 0.001, 10 + seed) for seed in range(4)]
    latency = summarize_times(rounds, num_threads=2)
    assert latency.rounds_p50_ms == pytest.approx([1000 * np.median(one) for one in rounds])
    assert latency.p99_ms == pytest.approx(1000 * np.percentile(np.concatenate(rounds), 99))
    assert (latency.num_runs, latency.num_threads) == (46, 2)
