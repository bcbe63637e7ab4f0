"""An inspection as plain data for JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_kd.litert.inspection.facts import Inspection

_TENSORS = ("inputs", "outputs", "unused_tensors")


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """Everything that an inspection holds, and its totals.

    A tensor is described once, in the list of its graph; operators, graphs and signatures hold its index there. Numbers
    that JSON does not have (NaN, infinity) are texts.
    """
    totals = {name: getattr(inspection, name) for name in ("multiply_adds", "constant_bytes", "other_bytes")}
    duplicates = [_plain(one) | {"bytes_lost": one.bytes_lost} for one in inspection.duplicates]
    graphs = [
        _plain(one) | {"multiply_adds": one.multiply_adds, "num_not_counted": len(one.not_counted)}
        for one in inspection.graphs
    ]
    return _plain(inspection) | totals | {"graphs": graphs, "duplicates": duplicates}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {one.name: _field(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _field(name: str, value: Any) -> Any:
    if name == "weights":
        return value and value.index
    if name in _TENSORS and isinstance(value, dict):
        return {key: one.index for key, one in value.items()}
    return [one and one.index for one in value] if name in _TENSORS else _plain(value)
