"""The rules of layers and operations that treat every channel alike, alone or pair by pair."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_kd.compression.structured.flow import Flow, merged
from keras_kd.compression.structured.visit import SUMMED, Visit

_ACTIVATIONS = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish relu "
    "relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink "
    "threshold"
)
_FUNCTIONS = [getattr(keras.activations, name) for name in _ACTIVATIONS.split() if hasattr(keras.activations, name)]
_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Identity)


def is_elementwise(activation: Any) -> bool:
    """Whether an activation is known to treat every element alike; a softmax is not.

    >>> is_elementwise(keras.activations.relu), is_elementwise(keras.activations.softmax)
    (True, False)
    """
    if isinstance(activation, keras.layers.Activation):
        return is_elementwise(activation.activation)
    return type(activation) in _LAYERS or any(activation is function for function in _FUNCTIONS)


def unary(visit: Visit) -> list[Flow]:
    """An element depends on one element: activations, noise. `Trace` keeps the channels of other activations."""
    return visit.same()


def dropout(visit: Visit) -> list[Flow]:
    """Dropout, whose noise may have a shape, with a number of channels."""
    noise = visit.layer.noise_shape or ()
    if any(noise[axis : axis + 1] not in ((), (None,), (1,)) for axis in visit.inputs[0].axes):
        return visit.stay(f"enters {visit.path!r}, whose noise_shape is {noise}")
    return visit.same()


def clip(visit: Visit) -> list[Flow]:
    """`keras.ops.clip` between two numbers, the same for all channels."""
    if np.ndim(visit.layer.x_min) or np.ndim(visit.layer.x_max):
        return visit.stay(f"enters {visit.path!r}, whose limits are arrays")
    return visit.same()


def softmax(visit: Visit) -> list[Flow]:
    (flow,) = visit.inputs[:1]
    axes = visit.layer.axis if isinstance(visit.layer.axis, (list, tuple)) else [visit.layer.axis]
    if flow.axes and any(axis % len(flow.shape) in flow.axes for axis in axes):
        visit.keep([flow], f"enters {visit.path!r}, a softmax over channels")
    return visit.same()


def rescaling(visit: Visit) -> list[Flow]:
    if np.ndim(visit.layer.scale) or np.ndim(visit.layer.offset):
        return visit.stay(f"enters {visit.path!r}, whose scale or offset is a list")
    return visit.same()


def merge(visit: Visit) -> list[Flow]:
    """Add, Multiply, Maximum, Average and their like: channels are coupled pair by pair."""
    if len({len(flow.shape) for flow in visit.inputs}) != 1:
        return visit.stay(f"enters {visit.path!r} with tensors of other ranks")
    return [merged(visit.inputs, visit.shapes[0], visit.channels, SUMMED)]


def binary_operation(visit: Visit) -> list[Flow]:
    """`x + y` of tensors, or of a tensor and a number."""
    others = [value for value in (*visit.args, *visit.kwargs.values()) if value is not None]
    if any(not isinstance(value, Flow) and np.ndim(value) for value in others):
        return visit.stay(f"enters {visit.path!r} with an array of numbers")
    return merge(visit)


def concatenate(visit: Visit) -> list[Flow]:
    """Joins tensors: along the channels, whose numbers are joined as well, or along another axis, such as time."""
    axis, shape, flows = visit.layer.axis % len(visit.shapes[0]), visit.shapes[0], visit.inputs
    if any(other != axis for flow in flows for other in flow.axes):
        is_along = any(axis in flow.axes for flow in flows)
        return visit.stay(f"enters {visit.path!r} with its axes reordered") if is_along else [_alike(visit, axis)]
    if all(flow.is_fixed for flow in flows):
        return [Flow.fixed(shape)]
    if shape[axis] is None:
        return visit.stay(f"enters {visit.path!r}, along an axis of unknown size")
    return [Flow.along(axis, np.concatenate([flow.one_axis(axis) for flow in flows]), shape)]


def _alike(visit: Visit, axis: int) -> Flow:
    """Concatenation along an axis without channels, such as time: channels are coupled as in a sum."""
    shape = tuple(1 if at == axis else size for at, size in enumerate(visit.shapes[0]))
    flows = [
        Flow(flow.ids, tuple(1 if at == axis else size for at, size in enumerate(flow.shape))) for flow in visit.inputs
    ]
    return Flow(merged(flows, shape, visit.channels, SUMMED).ids, visit.shapes[0])


def split(visit: Visit) -> list[Flow]:
    """`keras.ops.split`: into equal parts, whose channels are coupled so that they stay equal."""
    operation, (flow,) = visit.layer, visit.inputs
    axis = operation.axis % len(flow.shape)
    if axis not in flow.axes:
        return visit.same()
    ids = flow.one_axis(axis)
    if ids is None or not isinstance(operation.indices_or_sections, int):
        return visit.stay(f"is split by {visit.path!r} into other than equal parts")
    parts = np.split(ids, operation.indices_or_sections)
    for part in parts[1:]:
        visit.channels.unite(parts[0], part, "split together with channels that stay")
    return [Flow.along(axis, part, shape) for part, shape in zip(parts, visit.shapes, strict=True)]
