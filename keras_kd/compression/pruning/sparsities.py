"""The setting `sparsity`: a number, a schedule, or one of these for each layer."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from keras_kd import schedules
from keras_kd.compression.pruning.patterns import Pattern
from keras_kd.errors import ConfigurationError, check_number, explain

_CHECKED_STEPS = (0, *(10**power for power in range(8)))
END = _CHECKED_STEPS[-1]
_NOISE = 1e-6


def get_sparsity(sparsity: Any, pattern: Pattern) -> Any:
    """A schedule, or a dictionary of schedules by the path of a layer.

    Raises:
        ConfigurationError: a value that is missing, out of range, or not a number or schedule.
    """
    if not _is_by_layer(sparsity):
        return _schedule("sparsity", sparsity, pattern)
    if not sparsity:
        raise ConfigurationError(
            explain(
                "'sparsity' names no layer.", received="{}", expected="such as {'head': 0.5}, by the paths of layers"
            )
        )
    return {path: _schedule(f"sparsity[{path}]", value, pattern) for path, value in sparsity.items()}


def _is_by_layer(sparsity: Any) -> bool:
    """Whether this is one value per layer, and not the settings of a schedule, which have a `name` that is text."""
    return isinstance(sparsity, Mapping) and not isinstance(sparsity.get("name"), str)


def _schedule(name: str, sparsity: Any, pattern: Pattern) -> Any:
    least = pattern.least_sparsity
    if sparsity is None and not least:
        raise ConfigurationError(
            explain(
                f"{name!r} is missing.",
                received=f"None, with the pattern {pattern}",
                expected="the fraction of zeros, 0 to 1, or a schedule of it",
            )
        )
    sparsity = least if sparsity is None else sparsity
    if isinstance(sparsity, numbers.Real):
        own = f"The pattern {pattern} alone gives {least:g}." if least else None
        return schedules.get(float(check_number(name, sparsity, at_least=least, at_most=1.0, fix=own)))
    schedule = schedules.get(sparsity)
    values = [float(schedule(step)) for step in _CHECKED_STEPS]
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ConfigurationError(
            explain(
                f"Invalid {name!r}.",
                received=f"{sparsity!r}, which goes from {min(values):g} to {max(values):g}",
                expected="a schedule with values from 0 to 1",
            )
        )
    if values[-1] < least - _NOISE:
        raise ConfigurationError(
            explain(
                f"Invalid {name!r}.",
                received=f"{sparsity!r}, which ends at {values[-1]:g}",
                expected=f"a schedule that ends at {least:g} or more, which the pattern {pattern} needs",
            )
        )
    return schedule
