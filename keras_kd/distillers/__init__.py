"""The `Distiller` and its training step."""

from keras_kd.distillers.distiller import Distiller

__all__ = ["Distiller"]
