"""What a benchmark found out about models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_kd.evaluation.latency.latency import Latency, Ratio
from keras_kd.evaluation.latency.text import as_text
from keras_kd.litert.timing import CrossCheck, Profile


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


@dataclass(frozen=True)
class Benchmark:
    """The models of a benchmark in the order in which they were given.

    Attributes:
        speeds: for each model, one for each number of threads.
        profiles: by name, where the time goes with the first number of threads; the reason if that is unknown.
        failures: by name, why a model has no result.
        machine: what the times are from.
    """

    speeds: tuple[Speed, ...]
    profiles: Mapping[str, Profile | str]
    failures: Mapping[str, str]
    machine: Mapping[str, str]

    def __getitem__(self, key: tuple[str, int]) -> Speed:
        """The result of a model, by its name and number of threads."""
        return next(one for one in self.speeds if (one.name, one.num_threads) == key)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        profiles = {
            name: {"error": one} if isinstance(one, str) else dataclasses.asdict(one)
            for name, one in self.profiles.items()
        }
        failures = dict(self.failures)
        speeds = [dataclasses.asdict(one) for one in self.speeds]
        return {"machine": dict(self.machine), "models": speeds, "profiles": profiles, "failures": failures}

    def __str__(self) -> str:
        return as_text(self.speeds, self.profiles, self.machine)
