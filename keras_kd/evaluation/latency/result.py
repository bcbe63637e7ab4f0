"""What a benchmark found out about models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_kd.evaluation.latency.speed import Speed
from keras_kd.evaluation.latency.text import as_text
from keras_kd.litert.timing import Profile


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
