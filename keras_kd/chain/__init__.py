"""Distillation in several steps, with assistants between teacher and student, or from one generation to the next."""

from keras_kd.chain.distilling import born_again, distill_chain
from keras_kd.chain.result import Chain, TrainingRecord

__all__ = ["Chain", "TrainingRecord", "born_again", "distill_chain"]
