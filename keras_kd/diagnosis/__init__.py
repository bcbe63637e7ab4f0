"""Diagnoses whether a teacher is suitable for distillation, and how to fix the problems."""

from keras_kd.diagnosis.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
