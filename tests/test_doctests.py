"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import keras_kd

NAMES = [
    module.name
    for module in pkgutil.walk_packages(keras_kd.__path__, "keras_kd.")
    if not module.name.endswith(("._convert", "cli.main"))
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
