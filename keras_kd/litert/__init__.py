"""LiteRT (`.tflite`) files: their formats, and the interpreter that runs them."""

from keras_kd.litert.formats import FORMATS, Format, get_format

__all__ = ["FORMATS", "Format", "get_format"]
