"""A whole run from one validated file: data, teacher, student, distillation, export, report."""

from keras_kd.recipes.loading import default_text, load
from keras_kd.recipes.run import build_cache, diagnose_teacher, run
from keras_kd.recipes.schema import Recipe

__all__ = ["Recipe", "build_cache", "default_text", "diagnose_teacher", "load", "run"]
