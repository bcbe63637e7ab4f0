"""Where the targets come from."""

from keras_kd.teachers.absent import AbsentTeacher, check_fingerprint
from keras_kd.teachers.base import Batch, CarriedTeacher, Teacher
from keras_kd.teachers.cached import CachedTeacher
from keras_kd.teachers.diagnosis import Diagnosis, diagnose
from keras_kd.teachers.ensemble import Ensemble
from keras_kd.teachers.foreign import FunctionTeacher, from_path
from keras_kd.teachers.frozen import FrozenTeacher, as_teacher, fingerprint
from keras_kd.teachers.group import AbsentGroup, Resized
from keras_kd.teachers.panel import Panel
from keras_kd.teachers.saved_model import SavedModelTeacher
from keras_kd.teachers.stored_logits import StoredLogits
from keras_kd.teachers.tflite import TFLiteTeacher

__all__ = [
    "AbsentGroup",
    "AbsentTeacher",
    "Batch",
    "CachedTeacher",
    "CarriedTeacher",
    "Diagnosis",
    "Ensemble",
    "FrozenTeacher",
    "FunctionTeacher",
    "Panel",
    "Resized",
    "SavedModelTeacher",
    "StoredLogits",
    "TFLiteTeacher",
    "Teacher",
    "as_teacher",
    "check_fingerprint",
    "diagnose",
    "fingerprint",
    "from_path",
]
