"""The single list of file formats, shared by all of its readers."""

import typing

import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert import FORMATS, get_format
from keras_kd.litert.formats import Int4, Int8, Mixed
from keras_kd.recipes.reading.schema import Format as RecipeFormat


def test_formats_by_name():
    assert [name for name, one in FORMATS.items() if one.name != name] == []
    assert {name for name, one in FORMATS.items() if one.needs_calibration} == {"int8", "int8_float_io", "int16x8"}
    assert {name for name, one in FORMATS.items() if one.is_exact} == {"float32"}
    assert {one.io for one in FORMATS.values()} == {"float32", "int8", "int16"}
    assert all(name.startswith("int4") == one.needs_quantizer for name, one in FORMATS.items())


def test_recipes_have_the_same_formats():
    assert typing.get_args(RecipeFormat) == tuple(FORMATS)


@pytest.mark.parametrize("name", ["int2", None, 8, ["int8"]])
def test_an_unknown_format_is_refused_with_the_known_ones(name):
    with pytest.raises(
        ConfigurationError, match="one of 'float32', 'float16', 'dynamic', 'int8', 'int8_float_io', 'int16x8', 'int4'"
    ):
        get_format(name)


def test_the_list_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        FORMATS["int2"] = FORMATS["int8"]


def test_formats_are_values():
    assert get_format("int8") == Int8() != Int8(io="float32") == get_format("int8_float_io")
    assert get_format("int4_block32") == Int4(32) and get_format(Int4(64)) == Int4(64)
    assert len({*FORMATS.values(), Mixed({"head": "float32"}), Mixed([("head", "float32")])}) == len(FORMATS) + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Int8(io="uint8"), "Invalid 'io'.*'int8', 'float32'"),
        (lambda: Int4(48), "Invalid 'block_size'.*None, 32, 64, 128, 256"),
        (lambda: Mixed({}), "Invalid 'rules'"),
        (lambda: Mixed("head"), "Invalid 'rules'"),
        (lambda: Mixed({"": "int8"}), "Invalid 'rules'"),
        (lambda: Mixed({"head": "float16"}), "Invalid 'format'.*one of 'float32', 'dynamic'"),
        (lambda: Mixed({"head": "float32"}, default="int2"), "Invalid 'format'"),
    ],
)
def test_settings_that_no_file_has_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_mixed_format_needs_what_its_parts_need():
    assert Mixed({"head": "int16x8"}, default="float32").activations == "int16"
    assert not Mixed({"head": "int4"}, default="float32").needs_calibration
    assert Mixed({"head": "float32"}, default="float32").is_exact
