"""Targets as text."""

import pytest

from keras_kd.compression.sensitivities.targets import parse_target
from keras_kd.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "size", "drop"),
    [
        ("size<200kB", 200_000, None),
        (" size <= 1.5 MiB ", 1.5 * 2**20, None),
        ("accuracy_drop<0.5", None, 0.5),
        ("accuracy_drop<=5e-1 points,size<100", 100, 0.5),
    ],
)
def test_limits(text, size, drop):
    target = parse_target(text, "accuracy")
    assert (target.size and target.size.limit, target.drop and target.drop.limit) == (size, drop)


def test_a_limit_is_exclusive_or_inclusive():
    exclusive, inclusive = (parse_target(f"size{sign}10", "accuracy").size for sign in ("<", "<="))
    assert inclusive.holds(10) and not exclusive.holds(10) and exclusive.holds(9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Received: ''"),
        (3, "Received: 3"),
        ("size", "'size' in 'size'"),
        ("size>200kB", "'size>200kB'"),
        ("size<200kg", "the unit 'kg'"),
        ("size<-1", "'size<-1'"),
        ("size<0", "'size<0'"),
        ("size<nan", "'size<nan'"),
        ("sice<3kB", "'sice'.*Did you mean 'size'"),
        ("accuracy_drop<0.5%", "'accuracy_drop<0.5%'"),
        ("macro_f1_drop<0.5", "'macro_f1_drop'.*Did you mean|'macro_f1_drop'.*accuracy_drop<0.5"),
        ("size<3kB, size<4kB", "a second time"),
        ("size<3kB,", "'' in 'size<3kB,'"),
    ],
)
def test_anything_else_is_an_error(text, message):
    with pytest.raises(ConfigurationError, match=f"Invalid 'target'.*{message}"):
        parse_target(text, "accuracy")
