"""Compares the models of a report: the Pareto front, each class against the teacher, and where predictions differ."""

from keras_kd.evaluation.comparison.class_counts import ClassChange, ClassCounts
from keras_kd.evaluation.comparison.disagreements import Disagreement, Disagreements, find_disagreements
from keras_kd.evaluation.comparison.pareto import pareto_front
from keras_kd.evaluation.comparison.predicted import Predictions, predictions, reliability
from keras_kd.evaluation.comparison.synthesized import SynthesizedImage, SynthesizedImages

__all__ = [
    "ClassChange",
    "ClassCounts",
    "Disagreement",
    "Disagreements",
    "Predictions",
    "SynthesizedImage",
    "SynthesizedImages",
    "find_disagreements",
    "pareto_front",
    "predictions",
    "reliability",
]
