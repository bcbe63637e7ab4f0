"""Checks shared by the whole package."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError, check_integer


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_an_integer_is_returned_as_an_int(value):
    checked = check_integer("views", value, at_least=1, at_most=3)
    assert checked == 3 and type(checked) is int


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"at_least": 1}, "Invalid 'views'. Received: 0. Expected: a whole number, 1 <= views."),
        (9, {"at_least": 1, "at_most": 8}, "Received: 9. Expected: a whole number, 1 <= views <= 8."),
        (2.0, {}, r"Received: 2.0. Expected: a whole number\."),
        (True, {}, "Received: True"),
        ("3", {}, "Received: '3'"),
        (None, {}, "Received: None"),
    ],
)
def test_anything_else_is_rejected(value, limits, message):
    with pytest.raises(ConfigurationError, match=message):
        check_integer("views", value, **limits)
