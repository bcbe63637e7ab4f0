"""The memory plan: recorded answers of LiteRT for Microcontrollers' own planner, and laws."""

import itertools

import numpy as np
import pytest

from keras_kd.export.microcontroller.planning import Buffer, greedy_plan, planned_bytes

# Buffers (bytes, first, last) and their offsets by GreedyMemoryPlanner of tflite-micro, commit 90b983c.
RECORDED = [
    ([(96, 3, 4)], [0]),
    ([(64, -1, -1), (32, -1, -1)], [0, 64]),
    ([(16, 8, 8), (16, 8, 9)], [16, 0]),
    ([(64, 4, 4), (80, 5, 5), (16, 2, 5), (64, 2, 3)], [0, 0, 80, 0]),
    (
        [(32, 2, 5), (64, 2, 3), (48, -1, 0), (32, 1, 2), (48, 0, 1), (80, -1, 2), (16, 4, 5), (48, 4, 5), (32, 4, 5)],
        [176, 80, 128, 144, 80, 0, 80, 0, 48],
    ),
    (
        [(96, 6, 6), (48, -1, -1), (64, 4, 4), (48, 5, 6), (64, -1, -1), (80, 1, 1), (32, 0, 1), (80, 4, 5)]
        + [(64, 3, 3), (48, 4, 4), (16, 5, 5), (80, 4, 7), (32, 4, 5), (96, 3, 6)],
        [96, 64, 272, 272, 0, 0, 80, 96, 96, 336, 176, 192, 384, 0],
    ),
]


def random_buffers(generator, count):
    firsts = generator.integers(-1, 8, count)
    lasts = firsts + generator.choice([0, 1, 3, 9], count)
    sizes = 16 * generator.integers(1, 8, count)
    return [Buffer(*map(int, one)) for one in zip(sizes, firsts, lasts, strict=True)]


def live_bytes(buffers, place):
    return sum(one.num_bytes for one in buffers if one.first <= place <= one.last)


@pytest.mark.parametrize(("buffers", "offsets"), RECORDED, ids=range(len(RECORDED)))
def test_the_plan_is_that_of_tflm(buffers, offsets):
    assert greedy_plan([Buffer(*one) for one in buffers]) == offsets


def test_buffers_in_use_at_the_same_time_do_not_overlap():
    generator = np.random.default_rng(0)
    for _ in range(100):
        buffers = random_buffers(generator, 12)
        placed = list(zip(buffers, greedy_plan(buffers), strict=True))
        for (one, start), (other, begin) in itertools.combinations(placed, 2):
            apart = start + one.num_bytes <= begin or begin + other.num_bytes <= start
            assert apart or one.last < other.first or other.last < one.first


def test_the_plan_is_between_the_best_order_and_the_sum():
    """The best of all orders of first fit is brute force; no plan is below the bytes in use at one time."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        buffers = random_buffers(generator, 5)
        peak = max(live_bytes(buffers, place) for place in range(-1, 20))
        best = min(first_fit(order) for order in itertools.permutations(buffers))
        assert peak <= best <= planned_bytes(buffers) <= sum(one.num_bytes for one in buffers)


def first_fit(buffers):
    """The bytes that buffers take, each at the lowest offset that is free, in this order."""
    placed = []
    for one in buffers:
        others = [(other, at) for other, at in placed if other.first <= one.last and one.first <= other.last]
        for start in sorted({0, *(at + other.num_bytes for other, at in others)}):
            if all(start + one.num_bytes <= at or at + other.num_bytes <= start for other, at in others):
                placed.append((one, start))
                break
    return max(at + one.num_bytes for one, at in placed)


def test_a_chain_needs_its_two_largest_neighbors():
    chain = [Buffer(size, place - 1, place) for place, size in enumerate([64, 512, 192, 256, 96])]
    assert planned_bytes(chain) == 512 + 192
    assert planned_bytes([]) == 0
