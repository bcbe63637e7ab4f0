"""A whole run from one validated file: data, teacher, student, distillation, export, report.

Reading a recipe is light; Keras and its backend are loaded when a function that runs one is first used.
"""

import importlib
from typing import Any

from keras_kd.recipes.reading.compressing import compression_recipe
from keras_kd.recipes.reading.loading import default_text, load
from keras_kd.recipes.reading.schema import Recipe

__all__ = [
    "Recipe",
    "build_cache",
    "compression_recipe",
    "default_text",
    "diagnose_teacher",
    "export_files",
    "load",
    "run",
]

_LATER = {"build_cache": "runs", "diagnose_teacher": "runs", "export_files": "exporting", "run": "runs"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"keras_kd.recipes.{_LATER[name]}"), name)
    raise AttributeError(f"module 'keras_kd.recipes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
