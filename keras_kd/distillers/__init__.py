"""The Distiller, which takes the training step."""

from keras_kd.distillers.distiller import Distiller

__all__ = ["Distiller"]
