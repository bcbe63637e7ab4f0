"""The latency of a Keras model as a LiteRT file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_kd.errors import check_integer
from keras_kd.evaluation.latency.comparing import check_sample, measure_latency
from keras_kd.evaluation.runners import TFLiteRunner
from keras_kd.export import Converter, export_tflite


def litert_latency(
    sample: np.ndarray, *, num_threads: int = 1, converter: Converter | None = None, **settings: float
) -> Callable[[keras.Model], float]:
    """A function that measures models: from a Keras model to the median seconds of its float32 TFLite file.

    It is the `measure` of `kd.compression.ChannelPruning(latency=0.5, measure=litert_latency(x[:1]))`.

    Args:
        sample: one example as a batch [1, ...], in the scale that the models take.
        num_threads: CPU threads of LiteRT.
        converter: a `kd.export.Converter`, whose child process serves all models; None starts one for each.
        settings: further ones of `measure_latency`, such as `min_runs`.

    Raises:
        ConfigurationError: a number is out of range, or the sample is not a batch of one.
        ExportError: when called with a model that cannot be exported.
    """

    def measure(model: keras.Model) -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = export_tflite(model, Path(folder) / "model.tflite", samples=sample, converter=converter).path
            runner = TFLiteRunner(file, num_threads=num_threads)
            return measure_latency(runner, sample, **settings).p50_ms / 1000

    check_integer("num_threads", num_threads, at_least=1)
    check_sample(sample)
    return measure
