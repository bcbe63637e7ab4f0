"""What a LiteRT file contains, read without running it."""

from keras_kd.litert.inspection.costs import multiply_adds
from keras_kd.litert.inspection.inspecting import Inspection, inspect_tflite

__all__ = ["Inspection", "inspect_tflite", "multiply_adds"]
