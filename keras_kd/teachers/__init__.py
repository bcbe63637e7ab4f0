"""Where the targets come from."""

from keras_kd.teachers.base import Batch, CarriedTeacher, Teacher
from keras_kd.teachers.cached import CachedTeacher
from keras_kd.teachers.frozen import AbsentTeacher, FrozenTeacher, as_teacher, check_fingerprint, fingerprint

__all__ = [
    "AbsentTeacher",
    "Batch",
    "CachedTeacher",
    "CarriedTeacher",
    "FrozenTeacher",
    "Teacher",
    "as_teacher",
    "check_fingerprint",
    "fingerprint",
]
