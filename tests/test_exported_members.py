"""The public API: one sorted list in which every name exists, is documented, and is light to import."""

import importlib
import inspect
import subprocess
import sys

import pytest

import keras_kd

MODULES = ["keras_kd", *(f"keras_kd.{name}" for name in keras_kd.__all__ if inspect.ismodule(getattr(keras_kd, name)))]


@pytest.mark.parametrize("name", MODULES)
def test_exported_names_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        return
    assert list(module.__all__) == sorted(module.__all__)
    for member in module.__all__:
        value = getattr(module, member)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{member} has no docstring"


def test_dir_shows_the_public_names():
    assert set(keras_kd.__all__) <= set(dir(keras_kd))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        keras_kd.distill  # noqa: B018


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


HEAVY = (
    "tensorflow_datasets",
    "tensorflow_model_optimization",
    "tf_keras",
    "matplotlib",
    "sklearn",
    "pydantic",
    "typer",
    "ai_edge_litert",
)


def test_importing_alone_loads_nothing_heavy():
    assert run("import sys, keras_kd; print(*[m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])") == []


def test_importing_after_keras_adds_nothing_heavy_and_leaves_the_environment():
    code = f"""
import os, sys, keras
before, loaded = dict(os.environ), set(sys.modules)  # Keras itself looks for scikit-learn
import keras_kd
keras_kd.Distiller, keras_kd.callbacks, keras_kd.export, keras_kd.evaluation, keras_kd.data
print(*[m for m in {HEAVY!r} if m in set(sys.modules) - loaded])
assert dict(os.environ) == before
"""
    assert run(code) == []


def test_jax_loads_no_tensorflow():
    code = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras, keras_kd as kd
models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)]
print(float(kd.losses.soft_targets([[1.0, 2.0]], [[1.0, 2.0]], 2.0)[0]))
print(kd.Distiller(*models).built)
import sys
print("tensorflow" in sys.modules)
"""
    assert run(code) == ["0.0", "True", "False"]
