"""Latency: the time that a model takes for one example."""

from keras_kd.evaluation.latency.android import android_commands
from keras_kd.evaluation.latency.android_log import AndroidOperator, AndroidRun, parse_android_log
from keras_kd.evaluation.latency.comparing import compare_latency, measure_latency, take_turns
from keras_kd.evaluation.latency.exported import litert_latency
from keras_kd.evaluation.latency.latency import Latency, Ratio, ratio, summarize_times
from keras_kd.evaluation.latency.models import benchmark_models
from keras_kd.evaluation.latency.result import Benchmark
from keras_kd.evaluation.latency.speed import Speed

__all__ = [
    "AndroidOperator",
    "AndroidRun",
    "Benchmark",
    "Latency",
    "Ratio",
    "Speed",
    "android_commands",
    "benchmark_models",
    "compare_latency",
    "litert_latency",
    "measure_latency",
    "parse_android_log",
    "ratio",
    "summarize_times",
    "take_turns",
]
