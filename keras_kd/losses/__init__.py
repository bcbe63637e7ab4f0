"""How far apart teacher and student are."""

from keras_kd.losses.adapters import get
from keras_kd.losses.base import Context, DistillationLoss
from keras_kd.losses.hints import Hint, hint
from keras_kd.losses.logits import SoftTargets, binary_soft_targets, soft_targets
from keras_kd.losses.weighting import Weighted, confidence_weights, correctness_weights, entropy_weights

__all__ = [
    "Context",
    "DistillationLoss",
    "Hint",
    "SoftTargets",
    "Weighted",
    "binary_soft_targets",
    "confidence_weights",
    "correctness_weights",
    "entropy_weights",
    "get",
    "hint",
    "soft_targets",
]
