"""How much a channel matters: a score per class of coupled channels, from the weights that follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.structured.channels import FIXED, Pool
from keras_kd.compression.structured.tracing import Trace
from keras_kd.compression.structured.visit import Use
from keras_kd.errors import ConfigurationError, explain
from keras_kd.surgery.weights import weights_by_name

Values = Mapping[int, np.ndarray]


def slice_sums(values: Any, axis: int) -> np.ndarray:
    """The sums of a weight's slices along an axis, float64 [size].

    >>> slice_sums(np.array([[1.0, 2.0], [3.0, 4.0]]), 1).tolist()
    [4.0, 6.0]
    """
    values = np.asarray(values, "float64")
    return values.sum(axis=tuple(other for other in range(values.ndim) if other != axis % values.ndim))


def class_sums(sums: np.ndarray, ids: np.ndarray, classes: np.ndarray, totals: np.ndarray) -> None:
    """Adds the sum of each slice to the total of its channel's class; fixed channels have none."""
    free = ids != FIXED
    np.add.at(totals, classes[ids[free]], sums[free])


def magnitude_l1(trace: Trace, classes: np.ndarray) -> np.ndarray:
    """`sum |w|` over the kernels that compute the channels (H. Li et al., "Pruning Filters", 2017)."""
    return _totals(trace, classes, np.abs, lambda use, weight: use.role == "output")


def magnitude_l2(trace: Trace, classes: np.ndarray) -> np.ndarray:
    """`sqrt(sum w^2)` over the kernels that compute the channels."""
    return np.sqrt(_totals(trace, classes, np.square, lambda use, weight: use.role == "output"))


def group_norm(trace: Trace, classes: np.ndarray) -> np.ndarray:
    """`sqrt(sum w^2)` over all kernels and scales that follow the channels (G. Fang et al., "DepGraph", 2023)."""
    return np.sqrt(_totals(trace, classes, np.square, lambda use, weight: use.role != "other"))


def batch_norm(trace: Trace, classes: np.ndarray) -> np.ndarray:
    """The mean `|gamma|` of the normalizations of the channels; NaN for those without any.

    Source: Z. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017.
    """

    def is_scale(use, weight):
        return use.role == "scale"

    totals = _totals(trace, classes, np.abs, is_scale)
    counts = _totals(trace, classes, np.ones_like, is_scale)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def taylor(trace: Trace, classes: np.ndarray, products: Values) -> np.ndarray:
    """`(sum w g)^2` over the kernels that compute the channels, g the gradient of the loss; NaN for frozen ones.

    The product is that of the weights with the mean gradient over the examples. Source: P. Molchanov et al.,
    "Importance Estimation for Neural Network Pruning", 2019.

    Args:
        trace: of the model.
        classes: the class of each channel.
        products: `w * g` by the `id` of the weight.
    """
    totals, counts = np.zeros(len(classes)), np.zeros(len(classes))
    for use, weight in _uses(trace):
        if use.role == "output" and id(weight) in products:
            sums = slice_sums(products[id(weight)], use.axis)
            class_sums(sums, use.ids, classes, totals)
            class_sums(np.ones_like(sums), use.ids, classes, counts)
    return np.where(counts > 0, np.square(totals), np.nan)


def random(trace: Trace, classes: np.ndarray, seed: int) -> np.ndarray:
    """Uniform random numbers: the baseline that any score must beat."""
    return np.random.default_rng(seed).random(len(classes))


def relative(scores: np.ndarray, pools: list[Pool]) -> np.ndarray:
    """The scores divided by the mean of their pool, so that layers of other sizes and widths compare."""
    scaled = scores.copy()
    for pool in pools:
        mean = scores[pool.classes].mean()
        scaled[pool.classes] = scores[pool.classes] / mean if mean > 0 else 1.0
    return scaled


def _totals(trace: Trace, classes: np.ndarray, function: Callable, is_read: Callable[[Use, Any], bool]) -> np.ndarray:
    """By class, the sum of a function of the weights."""
    totals = np.zeros(len(classes))
    for use, weight in _uses(trace):
        if is_read(use, weight):
            class_sums(slice_sums(function(_values(weight)), use.axis), use.ids, classes, totals)
    return totals


def _uses(trace: Trace) -> Iterator[tuple[Use, keras.Variable]]:
    for record in trace.layers.values():
        weights = weights_by_name(record.layer) if record.uses else {}
        for use in record.uses.values():
            yield use, weights[use.weight]


def _values(weight: keras.Variable) -> np.ndarray:
    values = ops.convert_to_numpy(weight).astype("float64")
    if not np.isfinite(values).all():
        problem, expected = "A weight is not finite, so that channels cannot be ranked.", "finite weights"
        raise ConfigurationError(explain(problem, received=repr(weight.path), expected=expected))
    return values
