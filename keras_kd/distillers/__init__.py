"""The `Distiller` and its training step; adversarial training."""

from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.robust.adversarial_training import AdversarialTraining

__all__ = ["AdversarialTraining", "Distiller"]
