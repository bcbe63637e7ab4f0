"""The channels of one tensor: an array of channel numbers that is reshaped and transposed as the tensor is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_kd.compression.structured.channels import FIXED, Channels

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Flow:
    """A symbolic tensor with the number of the channel that each element belongs to.

    Attributes:
        ids: int, of the tensor's rank; an axis along which the channel does not change has size 1.
        shape: of the tensor.
    """

    ids: np.ndarray
    shape: Shape

    @classmethod
    def fixed(cls, shape: Sequence[int | None]) -> Flow:
        """A tensor whose channels all stay."""
        return cls(np.full((1,) * len(shape), FIXED), tuple(shape))

    @classmethod
    def along(cls, axis: int, ids: np.ndarray, shape: Sequence[int | None]) -> Flow:
        """A tensor with channels along one axis."""
        sizes = [1] * len(shape)
        sizes[axis] = -1
        return cls(np.reshape(ids, sizes), tuple(shape))

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the channel changes."""
        return tuple(axis for axis, size in enumerate(self.ids.shape) if size > 1)

    @property
    def is_fixed(self) -> bool:
        return bool((self.ids == FIXED).all())

    def one_axis(self, axis: int) -> np.ndarray | None:
        """The channels along an axis, int [size]; None if the channel changes along another axis as well."""
        axis %= len(self.shape)
        if any(other != axis for other in self.axes):
            return None
        return np.broadcast_to(self.ids.reshape(-1), (self.shape[axis] or 1,))

    def full(self, axes: Sequence[int] | None = None) -> np.ndarray | None:
        """The ids with these axes (by default all but the batch) at full size; None if a size is unknown."""
        axes = range(1, len(self.shape)) if axes is None else axes
        sizes = list(self.ids.shape)
        for axis in axes:
            if self.shape[axis] is None:
                return None
            sizes[axis] = self.shape[axis]
        return np.broadcast_to(self.ids, sizes)


def compressed(ids: np.ndarray, shape: Sequence[int | None]) -> Flow:
    """A flow whose axes along which the channel does not change have size 1.

    >>> compressed(np.array([[[3, 4], [3, 4]]]), (None, 2, 2)).ids.tolist()
    [[[3, 4]]]
    """
    for axis in range(ids.ndim):
        first = ids.take([0], axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return Flow(ids, tuple(shape))


def rectangular(flow: Flow, channels: Channels) -> Flow:
    """Couples channels so that what is removed are whole slices of one axis, the longest of those with channels."""
    if len(flow.axes) < 2:
        return flow
    longest = max(flow.axes, key=lambda axis: flow.ids.shape[axis])
    first = flow.ids
    for axis in flow.axes:
        if axis != longest:
            first = first.take([0], axis)
    channels.unite(first, flow.ids, "reshaped together with channels that stay")
    return Flow(first, flow.shape)


def reshaped(flow: Flow, shape: Shape, channels: Channels) -> Flow | None:
    """The flow after a reshape of all axes but the batch; None if it cannot be followed."""
    full = flow.full()
    if full is None or None in shape[1:] or math.prod(full.shape[1:]) != math.prod(shape[1:]):
        return None
    return rectangular(compressed(full.reshape(full.shape[0], *shape[1:]), shape), channels)


def merged(flows: Sequence[Flow], shape: Shape, channels: Channels, reason: str) -> Flow:
    """The flow of an elementwise function of tensors of the same rank, with broadcasting.

    A tensor that is broadcast along an axis with channels keeps its own.
    """
    rank = len(shape)
    axes = {axis for flow in flows for axis in flow.axes}
    broadcast = [flow for flow in flows if any(flow.shape[axis] == 1 and shape[axis] != 1 for axis in axes)]
    for flow in broadcast:
        channels.fix(flow.ids, "broadcast over other channels")
    others = [flow for flow in flows if not any(flow is one for one in broadcast)]
    if not others:
        for flow in flows:
            channels.fix(flow.ids, "broadcast over other channels")
        return Flow.fixed(shape)
    labeled = next((flow for flow in others if not flow.is_fixed), others[0])
    for flow in others:
        channels.unite(labeled.ids, flow.ids, reason)
    sizes = np.broadcast_shapes((1,) * rank, *(flow.ids.shape for flow in others))
    return rectangular(Flow(np.broadcast_to(labeled.ids, sizes), shape), channels)
