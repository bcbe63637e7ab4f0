"""Checks of settings shared by the data modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from keras_kd.errors import ConfigurationError, check_integer, explain

MAX_SEED = 2**32 - 1


def check_seed(seed: Any) -> int:
    """Returns `seed` as an int; raises `ConfigurationError` if it is not a valid NumPy seed."""
    return check_integer("seed", seed, at_least=0, at_most=MAX_SEED)


def check_fraction(name: str, value: Any) -> float | None:
    """Returns a fraction in (0, 1) or None; raises `ConfigurationError` for anything else."""
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < 1:
        raise ConfigurationError(
            explain(
                f"Invalid {name!r} for this source.",
                received=repr(value),
                expected=f"a fraction of the examples, 0 < {name} < 1",
                fix='Split expressions such as "train[:90%]" are for "tfds:NAME" only.',
            )
        )
    return float(value)


def check_value_range(value_range: Any) -> tuple[float, float]:
    """Returns `(low, high)` as floats; raises `ConfigurationError` for anything else."""
    if not _is_pair_of(Real, value_range) or not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise ConfigurationError(
            explain(
                "Invalid 'value_range'.",
                received=repr(value_range),
                expected="two numbers, the lower one first, such as (0.0, 1.0) or (-1.0, 1.0)",
            )
        )
    return float(value_range[0]), float(value_range[1])


def check_image_size(image_size: Any) -> tuple[int, int] | None:
    """Returns `(height, width)` in pixels from a number or a pair, None for None; else raises `ConfigurationError`."""
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, Integral) else image_size
    if not _is_pair_of(Integral, pair) or min(pair) < 1:
        raise ConfigurationError(
            explain(
                "Invalid 'image_size'.",
                received=repr(image_size),
                expected="a number of pixels, or (height, width) in pixels",
            )
        )
    return int(pair[0]), int(pair[1])


def _is_pair_of(kind: type, values: Any) -> bool:
    is_pair = isinstance(values, Sequence) and len(values) == 2
    return is_pair and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def refuse_image_size(image_size: Any, source: str) -> None:
    """Raises `ConfigurationError` if an image size is given for a source with a fixed one."""
    if image_size is not None:
        raise ConfigurationError(
            explain(
                f"The images of {source!r} cannot be resized.",
                received=f"image_size={image_size!r}",
                expected="no image_size",
                fix='image_size applies to "tfds:NAME" and "folder:PATH" only.',
            )
        )
