"""Curricula: which examples, and which parts of the loss, a training uses first."""

from keras_kd.curricula.by_scores import ByScores
from keras_kd.curricula.by_teacher import ByTeacherConfidence, ByTeacherLoss
from keras_kd.curricula.scoring import teacher_difficulties
from keras_kd.curricula.stages import stages
from keras_kd.data.curriculum.curriculum import Curriculum
from keras_kd.data.curriculum.pacing import allowed_fraction

__all__ = [
    "ByScores",
    "ByTeacherConfidence",
    "ByTeacherLoss",
    "Curriculum",
    "allowed_fraction",
    "stages",
    "teacher_difficulties",
]
