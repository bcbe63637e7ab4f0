"""Which weight functions keep the structure that earlier techniques left in a weight."""

from __future__ import annotations

import numpy as np

from keras_kd.compression.weight_functions import FixedZeros, WeightFunction

_LEAST_ZEROS = 0.1


def preserved(value: np.ndarray, name: str) -> tuple[list[WeightFunction], list[str]]:
    """The functions that keep the structure of a weight, and what each keeps, in words.

    A weight of which at least a tenth, but not all, is exactly zero counts as pruned.

    Args:
        value: of the weight.
        name: of the weight, a prefix of the functions' names.
    """
    zeros = float(np.mean(value == 0))
    if _LEAST_ZEROS <= zeros < 1.0:
        return [FixedZeros(name=f"{name}_zeros")], [f"{100 * zeros:.0f}% zeros"]
    return [], []
