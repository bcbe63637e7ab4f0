"""The Pareto front: the models that no other model beats in both cost and quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_kd.errors import ConfigurationError, explain


def pareto_front(
    costs: Sequence[float | None], qualities: Sequence[float | None], *, higher_is_better: bool = True
) -> list[int]:
    """The indices of the points that no other point dominates, from the lowest cost to the highest.

    A point dominates another if it is at least as good in both and better in one. Hence points that are equal in both
    are all on the front, and of points of equal cost only the best. Points with a missing or NaN number are not.

    Args:
        costs: sizes or times, one per point; lower is better.
        qualities: one per point.
        higher_is_better: the direction of the quality.

    Raises:
        ConfigurationError: different numbers of costs and qualities.

    >>> pareto_front([10, 20, 20, 40, None], [0.90, 0.95, 0.93, 0.95, 1.0])
    [0, 1]
    """
    if len(costs) != len(qualities):
        received = f"{len(costs)} costs, {len(qualities)} qualities"
        raise ConfigurationError(explain("Each point needs a cost and a quality.", received=received))
    losses = [value if value is None else -value if higher_is_better else value for value in qualities]
    known = [i for i, pair in enumerate(zip(costs, losses, strict=True)) if not any(map(_is_missing, pair))]
    front: list[int] = []
    for index in sorted(known, key=lambda i: (costs[i], losses[i])):  # stable: equal points keep their order
        last = front[-1] if front else None
        is_equal = last is not None and (costs[index], losses[index]) == (costs[last], losses[last])
        if last is None or is_equal or losses[index] < losses[last]:
            front.append(index)
    return front


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
