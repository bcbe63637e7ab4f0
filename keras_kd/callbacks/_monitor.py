"""What a callback reads from the logs: a metric, and whether lower or higher values are better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from keras_kd.errors import ConfigurationError, Notice, check_choice, explain

_HIGHER_IS_BETTER = ("acc", "auc", "f1", "f_", "iou", "precision", "recall")
_LOWER_IS_BETTER = ("loss", "error", "entropy", "divergence", "mae", "mape", "mse", "msle")


def read(logs: Mapping[str, Any] | None, names: tuple[str, ...], *, reader: str) -> list[float] | None:
    """The values of metrics in the logs of an epoch; None, with a `Notice`, if one is missing or not finite."""
    values = [(logs or {}).get(name) for name in names]
    for name, value in zip(names, values, strict=True):
        if value is None or not math.isfinite(value):
            problem = (
                f"found no {name!r} in the logs: {sorted(logs or {})}" if value is None else f"read {name} = {value}"
            )
            warnings.warn(f"{reader} {problem}. Nothing changes after this epoch.", Notice, stacklevel=3)
            return None
    return [float(value) for value in values]


def direction(monitor: str | None, mode: str) -> str:
    """`"min"` or `"max"`; `mode` unchanged if nothing is monitored."""
    check_choice("mode", mode, ("auto", "min", "max"))
    if mode != "auto" or monitor is None:
        return mode
    lower, higher = (any(part in monitor.lower() for part in parts) for parts in (_LOWER_IS_BETTER, _HIGHER_IS_BETTER))
    if lower == higher:
        raise ConfigurationError(
            explain(
                f"The name {monitor!r} does not show whether lower or higher values are better.",
                received="mode='auto'",
                expected="mode='min' or mode='max'",
            )
        )
    return "min" if lower else "max"
