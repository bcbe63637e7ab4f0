"""Where the targets come from."""

from keras_kd.teachers.base import Batch, Teacher
from keras_kd.teachers.frozen import AbsentTeacher, FrozenTeacher, as_teacher, check_fingerprint, fingerprint

__all__ = [
    "AbsentTeacher",
    "Batch",
    "FrozenTeacher",
    "Teacher",
    "as_teacher",
    "check_fingerprint",
    "fingerprint",
]
