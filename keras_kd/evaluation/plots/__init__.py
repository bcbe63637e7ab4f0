"""The pictures of a report, as SVG strings. matplotlib is imported inside functions."""

from keras_kd.evaluation.plots.calibration import MAX_CURVES, reliability, reliability_curves
from keras_kd.evaluation.plots.classes import MAX_CLASSES, class_changes
from keras_kd.evaluation.plots.confusion import check_confusion, confusion_matrix
from keras_kd.evaluation.plots.exits import exit_curve
from keras_kd.evaluation.plots.pixels import as_png, is_image, shown_range, to_pixels
from keras_kd.evaluation.plots.sensitivity import sensitivity_map
from keras_kd.evaluation.plots.softening import MAX_BARS, MAX_EXAMPLES, soft_targets, softened
from keras_kd.evaluation.plots.trade_offs import Point, drawable, front, latency_accuracy, size_accuracy
from keras_kd.evaluation.plots.training import training_curves

__all__ = [
    "MAX_BARS",
    "MAX_CLASSES",
    "MAX_CURVES",
    "MAX_EXAMPLES",
    "Point",
    "as_png",
    "check_confusion",
    "class_changes",
    "confusion_matrix",
    "drawable",
    "exit_curve",
    "front",
    "is_image",
    "latency_accuracy",
    "reliability",
    "reliability_curves",
    "sensitivity_map",
    "shown_range",
    "size_accuracy",
    "soft_targets",
    "softened",
    "to_pixels",
    "training_curves",
]
