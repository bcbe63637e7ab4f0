"""The steps of a projected gradient ascent, as pure functions on batches.

Every function treats each example by itself: the perturbation of one does not depend on the others in its batch.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain

NORMS = ("linf", "l2")


def direction(gradient: Any, norm: str) -> Any:
    """The direction of steepest ascent with norm 1, for each example.

    `sign(gradient)` for `"linf"`, `gradient / ||gradient||_2` for `"l2"`; 0 where the gradient is 0. Entries that are
    not finite, as half precision may produce, count as 0.

    Args:
        gradient: `[batch, ...]`.
        norm: `"linf"` or `"l2"`.

    >>> ops.convert_to_numpy(direction(ops.array([[3.0, -4.0]]), "linf")).tolist()
    [[1.0, -1.0]]
    """
    gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
    if norm == "linf":
        return ops.sign(gradient)
    axes = list(range(1, len(gradient.shape)))
    largest = ops.max(ops.abs(gradient), axis=axes, keepdims=True)
    scaled = gradient / ops.where(largest > 0, largest, 1.0)  # squares of small and large gradients stay in range
    length = ops.sqrt(ops.sum(ops.square(scaled), axis=axes, keepdims=True))
    return scaled / ops.where(length > 0, length, 1.0)


def project(moved: Any, x: Any, epsilon: float, norm: str, value_range: tuple[float, float]) -> Any:
    """The nearest point to `moved` in the ball of radius `epsilon` around `x`, clipped to the value range.

    If `x` lies in the range, so does the result, and it lies in the ball: clipping moves each value toward `x`.

    Args:
        moved, x: `[batch, ...]`.
        epsilon: the radius, in the unit of the inputs.
        norm: `"linf"` (each value by itself) or `"l2"` (each example as a vector).
        value_range: the smallest and the largest value of an input.
    """
    offset = moved - x
    if norm == "linf":
        offset = ops.clip(offset, -epsilon, epsilon)
    else:
        length = ops.sqrt(ops.sum(ops.square(offset), axis=list(range(1, len(x.shape))), keepdims=True))
        offset = offset * (epsilon / ops.maximum(length, epsilon))
    return ops.clip(x + offset, *value_range)


def random_offset(x: Any, epsilon: float, norm: str, seed: keras.random.SeedGenerator) -> Any:
    """A point drawn uniformly from the ball of radius `epsilon` around 0, for each example; shaped like `x`."""
    shape = ops.shape(x)
    if norm == "linf":
        return keras.random.uniform(shape, -epsilon, epsilon, dtype="float32", seed=seed)
    if None in x.shape[1:]:
        raise ConfigurationError(
            explain(
                "A random start in an l2 ball needs inputs of known size.",
                received=f"inputs of shape {tuple(x.shape)}",
                fix="Pass random_start=0.001 or False.",
            )
        )
    num_values = math.prod(x.shape[1:])
    normal = keras.random.normal((shape[0], num_values + 2), dtype="float32", seed=seed)
    # the first n of n + 2 coordinates of a uniform point on the sphere are uniform in the ball
    on_sphere = direction(normal, "l2")
    return epsilon * ops.reshape(on_sphere[:, :num_values], shape)


def normal_offset(x: Any, seed: keras.random.SeedGenerator) -> Any:
    """Standard normal noise, shaped like `x`."""
    return keras.random.normal(ops.shape(x), dtype="float32", seed=seed)


class SeedAt(keras.random.SeedGenerator):
    """The seed of one step: draws depend on a number and the step alone, so a resumed training repeats them.

    Unlike a `SeedGenerator`, it has no state that a checkpoint would have to contain.

    Args:
        seed: a whole number.
        step: the optimizer's step, an integer or an integer scalar tensor.
    """

    def __init__(self, seed: int, step: Any):
        dtype = "uint32" if keras.backend.backend() == "jax" else "int64"  # of the backend's keys
        self._key = ops.stack([ops.cast(part, dtype) for part in (seed, step)])

    def next(self, ordered: bool = True) -> Any:
        """The seed, the same in each call."""
        return self._key
