"""Measures accuracy, agreement, calibration and latency of models, and reports them."""

from keras_kd.evaluation.accuracy import (
    accuracy,
    agreement,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    measure,
)
from keras_kd.evaluation.comparison import pareto_front
from keras_kd.evaluation.latency import (
    AndroidRun,
    Benchmark,
    Latency,
    Ratio,
    Speed,
    android_commands,
    benchmark_models,
    compare_latency,
    litert_latency,
    measure_latency,
    parse_android_log,
)
from keras_kd.evaluation.page import write_html
from keras_kd.evaluation.plots import reliability
from keras_kd.evaluation.report import Report, write_json
from keras_kd.evaluation.robustness import Robustness, adversarial_examples, robustness
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.runners import KerasRunner, Runner, TFLiteRunner, file_sizes
from keras_kd.tasks import Scores

__all__ = [
    "AndroidRun",
    "Benchmark",
    "KerasRunner",
    "Latency",
    "ModelRow",
    "Ratio",
    "Report",
    "Robustness",
    "Role",
    "Runner",
    "Scores",
    "Speed",
    "TFLiteRunner",
    "accuracy",
    "adversarial_examples",
    "agreement",
    "android_commands",
    "benchmark_models",
    "compare_latency",
    "confusion_matrix",
    "expected_calibration_error",
    "file_sizes",
    "litert_latency",
    "macro_f1",
    "measure",
    "measure_latency",
    "pareto_front",
    "parse_android_log",
    "reliability",
    "robustness",
    "write_html",
    "write_json",
]
