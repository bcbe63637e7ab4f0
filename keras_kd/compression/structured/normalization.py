"""The rules of normalization layers and of PReLU, which have weights for each channel."""

from __future__ import annotations

import numpy as np

from keras_kd.compression.structured.channels import FIXED
from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.visit import Visit

_STATISTICS = ("moving_mean", "moving_variance")


def batch_normalization(visit: Visit) -> list[Flow]:
    flow, layer = visit.inputs[0], visit.layer
    ids = visit.read(flow, layer.axis)
    for name in visit.weights():
        visit.use(name, 0, ids, "scale" if name == "gamma" else "other")
    return [Flow.along(layer.axis % len(flow.shape), ids, visit.shapes[0])]


def layer_normalization(visit: Visit) -> list[Flow]:
    """Layer and RMS normalization: the statistics are those of the channels that are kept."""
    flow, axes = visit.inputs[0], visit.layer.axis
    axes = [axes] if isinstance(axes, int) else axes
    axes = sorted(axis % len(flow.shape) for axis in axes)
    _use_all(visit, flow, axes, "scale")
    return visit.same()


def _use_all(visit: Visit, flow: Flow, axes: list[int], role: str) -> None:
    """Weights whose axes are some of the tensor's."""
    if len(flow.axes) > 1:
        reason = f"enters {visit.path!r} with its axes reordered"
        visit.keep([flow], reason)
        visit.give_up(reason)
        return
    for name in visit.weights():
        for number, axis in enumerate(axes):
            visit.use(name, number, _channels(flow, axis), role if name in ("gamma", "scale") else "other")


def _channels(flow: Flow, axis: int) -> np.ndarray:
    """The channels along an axis, int [size]; fixed if they are along another one."""
    ids = flow.one_axis(axis)
    return np.full(flow.shape[axis], FIXED) if ids is None else ids


def group_normalization(visit: Visit) -> list[Flow]:
    """Groups leave as a whole, so that the statistics of the others stay as they are."""
    flow, layer = visit.inputs[0], visit.layer
    ids = visit.read(flow, layer.axis)
    groups = len(ids) if layer.groups == -1 else layer.groups
    numbers = ids.reshape(groups, -1)
    visit.channels.unite(numbers[:, :1], numbers, f"enters {visit.path!r} in groups")
    if layer.groups != -1:
        visit.size("groups", numbers[:, 0])
    for name in visit.weights():
        visit.use(name, 0, ids, "scale" if name == "gamma" else "other")
    return [Flow.along(layer.axis % len(flow.shape), ids, visit.shapes[0])]


def parametric_relu(visit: Visit) -> list[Flow]:
    flow, shared = visit.inputs[0], visit.layer.shared_axes or ()
    if len(flow.axes) > 1:
        return visit.stay(f"enters {visit.path!r} with its axes reordered")
    for axis in range(1, len(flow.shape)):
        if axis not in shared:
            visit.use("alpha", axis - 1, _channels(flow, axis), "other")
    return visit.same()
