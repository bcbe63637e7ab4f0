"""Adversaries: how the inputs of a student are perturbed within a small ball to maximize an objective."""

from keras_kd.adversaries.attacks import FGSM, OBJECTIVES, PGD, Adversary, get

__all__ = ["Adversary", "FGSM", "OBJECTIVES", "PGD", "get"]
