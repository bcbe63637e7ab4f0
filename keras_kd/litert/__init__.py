"""LiteRT (`.tflite`) files: their formats, and the interpreter that runs them."""

from keras_kd.litert.formats import FORMATS, Format, get_format
from keras_kd.litert.graph import Operator, float_operators, producer, read_operators
from keras_kd.litert.model import Model, check_examples
from keras_kd.litert.tensors import Tensor

__all__ = [
    "FORMATS",
    "Format",
    "Model",
    "Operator",
    "Tensor",
    "check_examples",
    "float_operators",
    "get_format",
    "producer",
    "read_operators",
]
