"""How far apart teacher and student are."""

from keras_kd.losses.adapters import Weighted, get
from keras_kd.losses.base import Context, DistillationLoss
from keras_kd.losses.logits import SoftTargets, binary_soft_targets, soft_targets

__all__ = [
    "Context",
    "DistillationLoss",
    "SoftTargets",
    "Weighted",
    "binary_soft_targets",
    "get",
    "soft_targets",
]
