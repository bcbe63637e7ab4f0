"""Tasks: the kind of problem a model solves, defined once for labels, losses, models, measures and reports."""

from keras_kd.tasks.base import Inputs, Scores, Task, get, names, registry
from keras_kd.tasks.finding import find
from keras_kd.tasks.labels import UNLABELED
from keras_kd.tasks.measures import Measure
from keras_kd.tasks.members.classification import Classification
from keras_kd.tasks.members.multi_label import MultiLabel
from keras_kd.tasks.members.regression import Regression
from keras_kd.tasks.members.segmentation import Segmentation
from keras_kd.tasks.members.token_classification import TokenClassification

__all__ = [
    "Classification",
    "Inputs",
    "Measure",
    "MultiLabel",
    "Regression",
    "Scores",
    "Segmentation",
    "Task",
    "TokenClassification",
    "UNLABELED",
    "find",
    "get",
    "names",
    "registry",
]
