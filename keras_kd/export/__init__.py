"""From a trained Keras model to a TFLite file that was compared with it."""

from keras_kd.export.tflite import ExportResult, export_tflite

__all__ = ["ExportResult", "export_tflite"]
