"""Teachers: objects that turn a batch into targets for the student."""

from keras_kd.features import ModelOutputs
from keras_kd.teachers.absent import AbsentTeacher, check_fingerprint
from keras_kd.teachers.averaged import AveragedWeights, EarlierWeights
from keras_kd.teachers.base import Batch, OfflineTeacher, Teacher
from keras_kd.teachers.cache.cached import CachedTeacher
from keras_kd.teachers.external.function import FunctionTeacher
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.external.saved_model import SavedModelTeacher
from keras_kd.teachers.external.stored_logits import StoredLogits
from keras_kd.teachers.external.tflite import TFLiteTeacher
from keras_kd.teachers.frozen import FrozenTeacher, as_teacher, fingerprint
from keras_kd.teachers.several.ensemble import Ensemble
from keras_kd.teachers.several.group import AbsentGroup, Resized
from keras_kd.teachers.several.panel import Panel
from keras_kd.teachers.several.route import Route
from keras_kd.teachers.smoothed_labels import SmoothedLabels

__all__ = [
    "AbsentGroup",
    "AbsentTeacher",
    "AveragedWeights",
    "Batch",
    "CachedTeacher",
    "EarlierWeights",
    "Ensemble",
    "FrozenTeacher",
    "FunctionTeacher",
    "ModelOutputs",
    "OfflineTeacher",
    "Panel",
    "Resized",
    "Route",
    "SavedModelTeacher",
    "SmoothedLabels",
    "StoredLogits",
    "TFLiteTeacher",
    "Teacher",
    "as_teacher",
    "check_fingerprint",
    "fingerprint",
    "from_path",
]
