"""Latency: the time that a model takes for one example."""

from keras_kd.evaluation.latency.comparing import compare_latency, measure_latency, take_turns
from keras_kd.evaluation.latency.exported import litert_latency
from keras_kd.evaluation.latency.latency import Latency, Ratio, ratio, summarize_times
from keras_kd.evaluation.latency.models import benchmark_models
from keras_kd.evaluation.latency.result import Benchmark, Speed

__all__ = [
    "Benchmark",
    "Latency",
    "Ratio",
    "Speed",
    "benchmark_models",
    "compare_latency",
    "litert_latency",
    "measure_latency",
    "ratio",
    "summarize_times",
    "take_turns",
]
