"""The rules of layers and operations that move elements, or join those of an axis without channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.compression.structured.flow import Flow, rectangular, reshaped
from keras_kd.compression.structured.visit import Visit


def spatial(visit: Visit) -> list[Flow]:
    """Padding, cropping, pooling and upsampling: any size may change, but not that of an axis with channels."""
    flow, shape = visit.inputs[0], visit.shapes[0]
    if any(flow.shape[axis] != shape[axis] for axis in flow.axes):
        return visit.stay(f"enters {visit.path!r}, which changes the number of channels")
    axis = channel_axis(visit.layer, len(shape))
    if any(other != axis for other in flow.axes):
        return visit.stay(f"enters {visit.path!r} with its axes reordered")
    return visit.same()


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of the channels of an image or series."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def global_pooling(visit: Visit) -> list[Flow]:
    flow, layer = visit.inputs[0], visit.layer
    rank = len(flow.shape)
    channel = channel_axis(layer, rank)
    return _reduced(visit, tuple(axis for axis in range(1, rank) if axis != channel), layer.keepdims)


def reduction(visit: Visit) -> list[Flow]:
    """`keras.ops.mean` and its like, over axes without channels."""
    rank, axes = len(visit.inputs[0].shape), visit.layer.axis
    axes = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    return _reduced(visit, tuple(axis % rank for axis in axes), visit.layer.keepdims)


def _reduced(visit: Visit, axes: tuple[int, ...], keepdims: bool) -> list[Flow]:
    flow = visit.inputs[0]
    if any(axis in flow.axes for axis in axes):
        return visit.stay(f"enters {visit.path!r}, which joins channels")
    ids = flow.ids if keepdims else np.squeeze(flow.ids, axes)
    return [Flow(ids, visit.shapes[0])]


def reshape(visit: Visit) -> list[Flow]:
    """Flatten and Reshape: the target shape follows the channels."""
    flow, shape = visit.inputs[0], visit.shapes[0]
    made = Flow.fixed(shape) if flow.is_fixed else reshaped(flow, shape, visit.channels)
    if made is None:
        return visit.stay(f"enters {visit.path!r}, a reshape of unknown size")
    if hasattr(visit.layer, "target_shape"):
        visit.size("target_shape", _sizes(made, visit.layer.target_shape))
    return [made]


def _sizes(flow: Flow, target: tuple[int, ...]) -> tuple[Any, ...]:
    """The target shape, with the channels of the axis that has any."""
    return tuple(
        flow.one_axis(axis) if axis in flow.axes else -1 if size == -1 else flow.shape[axis]
        for axis, size in enumerate(target, start=1)
    )


def flatten_first(visit: Visit) -> list[Flow]:
    """Flatten; channels that come first in memory order are flattened as the tensor is."""
    if getattr(visit.layer, "data_format", None) == "channels_first":  # which Flatten transposes
        flow = visit.inputs[0]
        rank = len(flow.shape)
        if rank > 2:
            order = (0, *range(2, rank), 1)
            moved = Flow(np.transpose(flow.ids, order), tuple(flow.shape[axis] for axis in order))
            visit.inputs[0] = moved
    return reshape(visit)


def permute(visit: Visit) -> list[Flow]:
    return _transposed(visit, (0, *visit.layer.dims))


def transpose(visit: Visit) -> list[Flow]:
    """`keras.ops.transpose` with the batch left in place, as the other rules take axis 0 to be the batch."""
    axes = visit.layer.axes or tuple(reversed(range(len(visit.inputs[0].shape))))
    axes = tuple(axis % len(axes) for axis in axes)
    if axes[0] != 0:
        return visit.stay(f"enters {visit.path!r}, which moves the batch to another axis")
    return _transposed(visit, axes)


def _transposed(visit: Visit, axes: tuple[int, ...]) -> list[Flow]:
    return [Flow(np.transpose(visit.inputs[0].ids, axes), visit.shapes[0])]


def repeat_vector(visit: Visit) -> list[Flow]:
    return [Flow(visit.inputs[0].ids[:, None], visit.shapes[0])]


def expand_dims(visit: Visit) -> list[Flow]:
    return [Flow(np.expand_dims(visit.inputs[0].ids, visit.layer.axis), visit.shapes[0])]


def squeeze(visit: Visit) -> list[Flow]:
    flow, shape = visit.inputs[0], visit.shapes[0]
    axis = visit.layer.axis
    if axis is None:
        axis = tuple(at for at, size in enumerate(flow.shape) if size == 1)
    return [rectangular(Flow(np.squeeze(flow.ids, axis), shape), visit.channels)]
