"""Targets as text: `"size<200kB, accuracy_drop<0.5"`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import nearest

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_PART = re.compile(r"(\w+)\s*(<=?)\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)")


@dataclasses.dataclass(frozen=True)
class Limit:
    """`value < limit`, or `value <= limit` if it is inclusive."""

    limit: float
    inclusive: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.inclusive else value < self.limit


@dataclasses.dataclass(frozen=True)
class Target:
    """What a compressed model must reach.

    Attributes:
        text: as it was written.
        size: the limit of the size in bytes, or None.
        drop: the limit of the drop of the measure, or None.
    """

    text: str
    size: Limit | None = None
    drop: Limit | None = None


def parse_target(text: Any, measure: str) -> Target:
    """Reads a target.

    Args:
        text: conditions joined by commas: `size<200kB` (units B, kB, MB, KiB, MiB), `accuracy_drop<0.5`.
        measure: the name of the measure, which `..._drop` must name.

    Raises:
        ConfigurationError: anything else.

    >>> parse_target("size<200kB, accuracy_drop<=0.5", "accuracy").size
    Limit(limit=200000.0, inclusive=False)
    """
    if not isinstance(text, str) or not text.strip():
        raise _invalid(repr(text), measure)
    limits: dict[str, Limit] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise _invalid(f"{part.strip()!r} in {text!r}", measure)
        name, sign, number, unit = match.groups()
        known = {"size": _UNITS, f"{measure}_drop": {"": 1, "points": 1}}
        if name not in known:
            raise _invalid(f"{name!r} in {text!r}", measure, nearest(name, known) or None)
        if unit.lower() not in known[name]:
            raise _invalid(f"the unit {unit!r} in {text!r}", measure)
        limit = Limit(float(number) * known[name][unit.lower()], sign == "<=")
        if name in limits or limit.limit <= 0:
            raise _invalid(f"{part.strip()!r} in {text!r}" + (" a second time" if name in limits else ""), measure)
        limits[name] = limit
    return Target(text.strip(), limits.get("size"), limits.get(f"{measure}_drop"))


def _invalid(received: str, measure: str, fix: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        explain(
            "Invalid 'target'.",
            received=received,
            expected=f"limits above 0, each once, such as 'size<200kB, {measure}_drop<0.5': size in B, kB, MB, KiB or "
            f"MiB, {measure}_drop in points for shares",
            fix=fix,
        )
    )
