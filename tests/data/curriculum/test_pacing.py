"""Pacing functions, compared with the published formulas written in float64."""

import numpy as np
import pytest

from keras_kd.data.curriculum.pacing import SHAPES, allowed_fraction, num_allowed

N, START, FULL_AFTER = 50_000, 0.2, 400


def published(pacing, step):
    """Wu, Dyer & Neyshabur, table 2, with N examples, b = START and a T = FULL_AFTER."""
    rest, c = N * (1 - START), 10
    return (
        N * START
        + {
            "log": lambda: rest * (1 + 0.1 * np.log(step / FULL_AFTER + np.exp(-c))),
            "exp": lambda: rest / (np.exp(c) - 1) * (np.exp(c * step / FULL_AFTER) - 1),
            "step": lambda: N * np.floor(step / FULL_AFTER),
            "root": lambda: rest / FULL_AFTER**0.5 * step**0.5,
            "linear": lambda: rest / FULL_AFTER * step,
            "quad": lambda: rest / FULL_AFTER**2 * step**2,
        }[pacing]()
    )


@pytest.mark.parametrize("pacing", SHAPES)
def test_the_published_formulas(pacing):
    for step in (0, 1, 7, 100, 399, 400, 401, 5000):
        value = allowed_fraction(pacing, step, start=START, full_after=FULL_AFTER)
        assert value * N == pytest.approx(min(N, published(pacing, step)), rel=1e-9), step


@pytest.mark.parametrize("pacing", SHAPES)
def test_a_pace_rises_from_start_to_one(pacing):
    values = [allowed_fraction(pacing, step, start=START, full_after=50) for step in range(60)]
    assert values[0] == pytest.approx(START) and values == sorted(values) and values[50:] == [1.0] * 10
    assert values[49] < 1 or pacing == "log"
    assert allowed_fraction(pacing, 0, start=1.0, full_after=50) == 1


def test_at_least_a_batch():
    assert [num_allowed(f, 100, at_least=16) for f in (0.01, 0.16, 0.29, 1.0)] == [16, 16, 29, 100]
    assert num_allowed(0.01, 5, at_least=16) == 5
    assert [num_allowed(k / 10, 10, at_least=1) for k in range(1, 11)] == list(range(1, 11))  # not 2 for 0.3 - 1e-17
