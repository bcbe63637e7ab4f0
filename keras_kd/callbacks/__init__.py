"""Keras callbacks: thin adapters between `fit` and the rest of the package."""

from keras_kd.callbacks.adaptive import AdaptiveAlpha, ProgressLearningRate
from keras_kd.callbacks.hyperparameters import AlphaDecay, TemperatureDecay
from keras_kd.callbacks.resume import Resume
from keras_kd.callbacks.rules import DynamicWeightAverage, EqualParts, GapToTeacher
from keras_kd.callbacks.snapshots import Snapshots
from keras_kd.callbacks.tflite_export import TFLiteExport

__all__ = [
    "AdaptiveAlpha",
    "AlphaDecay",
    "DynamicWeightAverage",
    "EqualParts",
    "GapToTeacher",
    "ProgressLearningRate",
    "Resume",
    "Snapshots",
    "TFLiteExport",
    "TemperatureDecay",
]
