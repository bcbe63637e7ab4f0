"""Formatting of numbers for display."""

import pytest

from keras_kd.quantities import human_bytes


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (16_408, "16.0 KiB"),
        (204_800, "200 KiB"),
        (1_735_204, "1.65 MiB"),
        (3 * 2**30, "3 GiB"),
        (3 * 2**45, "96 TiB"),
    ],
)
def test_human_bytes(num_bytes, text):
    assert human_bytes(num_bytes) == text
