"""Images made from a trained model alone, for distillation without data."""

from keras_kd.synthesis.dafl import DAFL
from keras_kd.synthesis.deep_inversion import DeepInversion
from keras_kd.synthesis.generator import generator
from keras_kd.synthesis.objectives import (
    activation_loss,
    agreement,
    batch_norm_loss,
    information_entropy_loss,
    one_hot_loss,
    total_variation,
)
from keras_kd.synthesis.synthesizer import Synthesizer
from keras_kd.synthesis.zskt import ZSKT

__all__ = [
    "DAFL",
    "DeepInversion",
    "Synthesizer",
    "ZSKT",
    "activation_loss",
    "agreement",
    "batch_norm_loss",
    "generator",
    "information_entropy_loss",
    "one_hot_loss",
    "total_variation",
]
