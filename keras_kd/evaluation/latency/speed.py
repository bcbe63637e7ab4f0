"""The measurements of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_kd.evaluation.latency.latency import Latency, Ratio
from keras_kd.litert.timing import CrossCheck


@dataclass(frozen=True)
class Speed:
    """One model with one number of threads.

    Attributes:
        name: of the model.
        runtime: "LiteRT 2.3.0", or such as "Keras 3.15.1 on tensorflow".
        num_threads: the number of CPU threads that was asked for; `latency.num_threads` is None if it cannot be set.
        num_bytes: the size of the file.
        inputs: shape and dtype of each input by name.
        load_ms: the time to load the file from the page cache, in milliseconds.
        first_run_ms: the time of the first run, in milliseconds.
        latency: the times of the runs.
        ratio: to the first model with as many threads.
        memory_bytes: by how much the process grew at most since before it loaded the file; None if that is unknown.
        peak_bytes: the peak of the whole process, with Python and the runtime; None if that is unknown.
        cross_check: what LiteRT's own tool measured; the reason if it did not; None if it was not asked.
    """

    name: str
    runtime: str
    num_threads: int
    num_bytes: int
    inputs: Mapping[str, str]
    load_ms: float
    first_run_ms: float
    latency: Latency
    ratio: Ratio
    memory_bytes: int | None
    peak_bytes: int | None
    cross_check: CrossCheck | str | None = None
