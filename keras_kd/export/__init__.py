"""From a trained Keras model to a TFLite file that was compared with it."""

from keras_kd.export._conversion import Converter
from keras_kd.export.tflite import ExportResult, export_tflite

__all__ = ["Converter", "ExportResult", "export_tflite"]
