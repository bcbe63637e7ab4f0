"""Pacing functions: how many of the examples a curriculum allows at a step."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEEPNESS = 10.0  # of `log` and `exp`, as published
_ROUNDING = 1e-9

SHAPES: dict[str, Callable[[float], float]] = {
    "log": lambda t: 1.0 + math.log(t + math.exp(-_STEEPNESS)) / _STEEPNESS,
    "root": math.sqrt,
    "linear": lambda t: t,
    "quad": lambda t: t * t,
    "exp": lambda t: math.expm1(_STEEPNESS * t) / math.expm1(_STEEPNESS),
    "step": lambda t: 0.0,
}
"""The share of the examples beyond `start`, at a share `t < 1` of the way, from the fastest to the slowest."""


def allowed_fraction(pacing: str, step: int, *, start: float, full_after: int) -> float:
    """The fraction of the examples that may be used at a step, from `start` to 1.

    `start + (1 - start) * shape(step / full_after)` before step `full_after`, 1 from there on. The shapes of
    `t` are `1 + log(t + e^-10) / 10`, `sqrt(t)`, `t`, `t^2`, `(e^(10 t) - 1) / (e^10 - 1)` and 0.

    Source: X. Wu, E. Dyer and B. Neyshabur, "When Do Curricula Work?", 2021.

    Args:
        pacing: `"log"`, `"root"`, `"linear"`, `"quad"`, `"exp"` or `"step"`.
        step: from 0.
        start: the fraction at step 0, above 0.
        full_after: the step from which all examples are allowed.

    >>> [round(allowed_fraction("quad", step, start=0.2, full_after=100), 6) for step in (0, 50, 100)]
    [0.2, 0.4, 1.0]
    """
    if step >= full_after:
        return 1.0
    return min(1.0, start + (1.0 - start) * max(0.0, SHAPES[pacing](step / full_after)))


def num_allowed(fraction: float, num_examples: int, at_least: int) -> int:
    """The number of examples that a fraction allows: rounded down, but at least `at_least` of those that exist.

    >>> num_allowed(0.3, 10, at_least=1), num_allowed(0.3, 10, at_least=4), num_allowed(0.3, 3, at_least=4)
    (3, 4, 3)
    """
    return min(num_examples, max(at_least, math.floor(fraction * num_examples + _ROUNDING)))
