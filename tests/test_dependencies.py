"""`setup.cfg` declares exactly what is imported, each with a lower bound that `.ci/run` can install."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {"art": "adversarial-robustness-toolbox", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
NOT_IMPORTED = {
    "importlib-resources",  # tensorflow-datasets imports it without declaring it
    "protobuf",  # tensorflow-metadata allows versions that are too old for it
    "tensorflow-model-optimization",
    "tf-keras",
}

SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg", encoding="utf-8")


def lines(section, option):
    stripped = (line.strip() for line in SETTINGS[section][option].splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


PACKAGE = lines("options", "install_requires")
JAX = lines("options.extras_require", "jax")
TESTS = lines("options.extras_require", "test")
OWN_EXTRA = "keras_kd[jax]"


def name(text):
    """A distribution's name as normalized by the package index."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text).group()).lower()


def names(requirements):
    return {name(requirement) for requirement in requirements}


def imports(folder):
    """The distributions that the files of a folder import, including imports in functions and scripts."""
    files = list(ROOT.glob(f"{folder}/**/*.py"))
    local = {path.stem for path in files} | {path.parent.name for path in files} | {"keras_kd"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - local:
                yield name(DISTRIBUTIONS.get(module, module))


def test_the_package_declares_what_it_imports_and_nothing_else():
    assert set(imports("keras_kd")) == (names(PACKAGE) - NOT_IMPORTED) | names(JAX)
    assert names(JAX) == {"jax"}  # users of TensorFlow, which everyone needs for the export, do without it


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_the_test_extra_declares_what_the_tests_import(folder):
    assert OWN_EXTRA in TESTS  # the version of JAX is written once
    assert set(imports(folder)) <= names(PACKAGE + JAX + TESTS)


@pytest.mark.parametrize("requirement", [*PACKAGE, *JAX, *(line for line in TESTS if line != OWN_EXTRA)])
def test_a_requirement_is_a_name_with_a_lower_bound(requirement):
    """The only form that `.ci/run` turns into `name==version`; otherwise the oldest version would not be tested."""
    assert re.fullmatch(r"[\w-]+>=\d+(\.\d+)*(,<\d+(\.\d+)*)?", requirement)
