"""Keras callbacks: thin adapters between `fit` and the rest of the package."""

from keras_kd.callbacks.hyperparameters import AlphaDecay, TemperatureDecay
from keras_kd.callbacks.resume import Resume
from keras_kd.callbacks.save_route import SaveRoute
from keras_kd.callbacks.tflite_export import TFLiteExport

__all__ = ["AlphaDecay", "Resume", "SaveRoute", "TFLiteExport", "TemperatureDecay"]
