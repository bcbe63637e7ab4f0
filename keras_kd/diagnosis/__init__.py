"""Whether a teacher is fit to teach, and what to do where it is not."""

from keras_kd.diagnosis.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
