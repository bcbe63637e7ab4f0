"""The single list of file formats, shared by all of its readers."""

import typing

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert import FORMATS, get_format
from keras_kd.recipes.reading.schema import Format as RecipeFormat


def test_formats_by_name():
    assert [name for name, one in FORMATS.items() if one.name != name] == []
    assert {name for name, one in FORMATS.items() if one.needs_calibration} == {"int8", "int16x8"}
    assert {name for name, one in FORMATS.items() if one.is_exact} == {"float32"}
    for one in FORMATS.values():
        np.dtype(one.weights), np.dtype(one.activations)


def test_recipes_have_the_same_formats():
    assert typing.get_args(RecipeFormat) == tuple(FORMATS)


@pytest.mark.parametrize("name", ["int4", None, 8, ["int8"]])
def test_an_unknown_format_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigurationError, match="one of 'float32', 'float16', 'dynamic', 'int8', 'int16x8'"):
        get_format(name)


def test_the_list_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        FORMATS["int4"] = FORMATS["int8"]
