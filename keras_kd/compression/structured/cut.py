"""Which classes of channels a cut keeps, what the remaining model costs, and where to cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.compression.structured.channels import Pool
from keras_kd.compression.structured.tracing import Trace
from keras_kd.errors import ConfigurationError, explain
from keras_kd.surgery.weights import weights_by_name


class Cut:
    """The channels of a model, some of which are removed.

    Args:
        trace: of the model.
        kept: whether each class is kept, bool [channels]; None keeps all.
    """

    def __init__(self, trace: Trace, kept: np.ndarray | None = None):
        classes = trace.channels.classes()
        kept = np.ones(len(classes), bool) if kept is None else kept
        self.trace = trace
        self._is_kept = np.append(kept[classes], True)  # the last one stands for fixed channels, whose number is -1

    def mask(self, ids: np.ndarray) -> np.ndarray:
        """Whether each channel is kept."""
        return self._is_kept[ids]

    def count(self, ids: Any) -> int:
        """How many of the channels are kept; a number stays as it is."""
        return int(self.mask(ids).sum()) if isinstance(ids, np.ndarray) else ids


def operations(model: keras.Model) -> int:
    """The multiply-accumulate operations of one forward pass of one example.

    Those of kernels and of attention scores are counted; normalization, activations, additions and layers of the user's
    own are not.

    Raises:
        ConfigurationError: the size of an axis that matters is unknown.

    >>> operations(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)]))
    18
    """
    return count_operations(Cut(Trace(model)))


def count_operations(cut: Cut) -> int:
    """The multiply-accumulate operations of a model after a cut."""
    total = 0
    for record in cut.trace.layers.values():
        sizes = _kept_sizes(record, cut) if record.work else {}
        for weight, times in record.work:
            total += _known(times, record.path) * math.prod(sizes[weight])
        for ids, times in record.scores:
            total += _known(times, record.path) * cut.count(ids)
    return total


def count_parameters(cut: Cut, model: keras.Model) -> int:
    """The weights of a model after a cut, as `count_params` counts them."""
    total = model.count_params()
    for record in cut.trace.layers.values():
        if record.uses:
            before = sum(math.prod(weight.shape) for weight in weights_by_name(record.layer).values())
            total += sum(map(math.prod, _kept_sizes(record, cut).values())) - before
    return total


def _kept_sizes(record: Any, cut: Cut) -> dict[str, list[int]]:
    """The shapes of a layer's weights after a cut."""
    sizes = {name: list(weight.shape) for name, weight in weights_by_name(record.layer).items()}
    for use in record.uses.values():
        sizes[use.weight][use.axis] = cut.count(use.ids)
    return sizes


def _known(times: int | None, path: str) -> int:
    if times is None:
        raise ConfigurationError(
            explain(
                "The operations of a model of variable input size cannot be counted.",
                received=f"{path!r}, whose input has an unknown size",
                expected="an Input with all sizes but the batch",
                fix="Build the model with a fixed input shape, or set a target of 'parameters'.",
            )
        )
    return times


class Ranking:
    """The order in which classes leave, and what is left when the first ones have left.

    Every pool keeps at least one class.

    Args:
        pools: those from which classes may leave.
        scores: a number per class; the smallest leave first.
        scope: `"global"` compares the classes of all pools, `"local"` takes the same fraction of each.
        multiple_of: round the remaining channel counts up to a multiple of this; attention heads count as channels.
    """

    def __init__(self, pools: Sequence[Pool], scores: np.ndarray, *, scope: str, multiple_of: int):
        self._orders = [pool.classes[np.argsort(scores[pool.classes], kind="stable")] for pool in pools]
        self._steps = [_step(pool, multiple_of) for pool in pools]
        keys = [
            scores[order] if scope == "global" else (np.arange(len(order)) + 1) / len(order) for order in self._orders
        ]
        owners = np.repeat(np.arange(len(pools)), [len(order) for order in self._orders])
        order = np.argsort(np.concatenate([*keys, []]), kind="stable")
        self._positions = [np.flatnonzero(owners[order] == number) for number in range(len(pools))]
        self.size = len(order)

    def kept(self, num_removed: int, num_channels: int) -> np.ndarray:
        """Whether each class is kept once the first ones have left, bool [num_channels]."""
        kept = np.ones(num_channels, bool)
        for order, positions, step in zip(self._orders, self._positions, self._steps, strict=True):
            rest = max(1, len(order) - int(np.searchsorted(positions, num_removed)))
            kept[order[: max(0, len(order) - step * math.ceil(rest / step))]] = False
        return kept


def _step(pool: Pool, multiple_of: int) -> int:
    """How many classes leave together, so that each owner loses a multiple of channels."""
    return math.lcm(*(multiple_of // math.gcd(multiple_of, width) for width in pool.widths))


def smallest(size: int, cost: Callable[[int], float], target: float) -> tuple[int, float]:
    """The smallest number in 0 to `size` whose cost, which falls, is at most the target; and that cost.

    If none is, `size` and its cost.

    >>> smallest(10, lambda number: 10 - number, 6.5)
    (4, 6)
    """
    low, high = 0, size
    reached = cost(size)
    while low < high:
        middle = (low + high) // 2
        value = cost(middle)
        if value <= target:
            high, reached = middle, value
        else:
            low = middle + 1
    return high, reached


def removable(pools: Sequence[Pool], scores: np.ndarray, skipped: str) -> Iterator[Pool]:
    """The pools, those whose classes have no score with the reason for it."""
    for pool in pools:
        has_score = pool.reason or np.isfinite(scores[pool.classes]).all()
        yield pool if has_score else Pool(pool.owners, pool.classes, pool.widths, skipped)
