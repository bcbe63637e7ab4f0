"""Formatting of numbers for display."""

import pytest

from keras_kd.quantities import human_bytes, human_number


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


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (99_949, "99.9 k"),
        (99_950, "100 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (300_774_272, "301 M"),
        (10**17, "100 P"),
        (10**18, "1.0e+18"),
        ((2**31 - 1) ** 9, "9.7e+83"),
    ],
)
def test_human_number(number, text):
    assert human_number(number) == text
