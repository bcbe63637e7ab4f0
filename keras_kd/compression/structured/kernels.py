"""The rules of layers that multiply by a kernel: they read channels, and compute others."""

from __future__ import annotations

import numpy as np

from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.shapes import channel_axis
from keras_kd.compression.structured.visit import Visit


def dense(visit: Visit) -> list[Flow]:
    flow, shape = visit.inputs[0], visit.shapes[0]
    visit.work("kernel", shape[1:-1])
    axis = len(flow.shape) - 1
    if any(other != axis for other in flow.axes):
        if axis in flow.axes:
            return visit.stay(f"enters {visit.path!r} with its axes reordered")
        visit.give_up(f"{visit.path!r} computes another axis than that of the channels")
        return [Flow(flow.ids, shape)]
    visit.use("kernel", 0, visit.read(flow, axis), "input")
    return [Flow.along(axis, _outputs(visit, "units", "kernel", 1, shape[-1]), shape)]


def _outputs(visit: Visit, key: str, kernel: str, axis: int, count: int) -> np.ndarray:
    """The channels that a kernel computes, with the bias and the number in the configuration."""
    ids = visit.computed(kernel, axis, count)
    visit.size(key, ids)
    if visit.layer.use_bias:
        visit.use("bias", 0, ids, "other")
    return ids


def einsum_dense(visit: Visit) -> list[Flow]:
    """A contraction of one axis into one axis, as `"abc,cd->abd"`; others keep their channels."""
    flow, shape, layer = visit.inputs[0], visit.shapes[0], visit.layer
    rank = len(flow.shape)
    letters = _letters(layer.equation, rank)
    if letters is None:
        return visit.stay(f"enters {visit.path!r}, whose equation {layer.equation!r} is not that of a matrix")
    read, kernel, made = letters
    (summed,) = (letter for letter in kernel if letter in read)
    (output,) = (letter for letter in kernel if letter in made)
    axis = read.index(summed)
    known = dict(zip(read, flow.shape, strict=True))  # the sizes that an output_shape of None leaves open
    shape = tuple(known.get(letter) if size is None else size for letter, size in zip(made, shape, strict=True))
    visit.work("kernel", [size for letter, size in zip(made, shape, strict=True) if letter != output][1:])
    bias = (layer.bias_axes or "").replace(".", "")
    if any(other != axis for other in flow.axes) or bias not in ("", output):
        return visit.stay(f"enters {visit.path!r} with its axes reordered, or with a bias of several axes")
    visit.use("kernel", kernel.index(summed), visit.read(flow, axis), "input")
    ids = visit.computed("kernel", kernel.index(output), shape[made.index(output)])
    if bias:
        visit.use("bias", 0, ids, "other")
    at = made.index(output)
    partial = layer.partial_output_shape
    sizes = enumerate(partial, start=rank - len(partial))  # an ellipsis stands for axes that it leaves out
    visit.size("output_shape", tuple(ids if at == number else size for number, size in sizes))
    return [Flow.along(at, ids, shape)]


def _letters(equation: str, rank: int) -> tuple[str, str, str] | None:
    """The letters of input, kernel and output of an equation whose kernel is a matrix; None for any other.

    >>> _letters("...c,cd->...d", 3)
    ('01c', 'cd', '01d')
    """
    given, _, made = equation.replace(" ", "").partition("->")
    read, _, kernel = given.partition(",")
    dots = "".join(map(str, range(rank - len(read.replace(".", "")))))
    read, made = read.replace("...", dots), made.replace("...", dots)
    summed = [letter for letter in kernel if letter in read and letter not in made]
    output = [letter for letter in kernel if letter in made and letter not in read]
    is_matrix = len(kernel) == 2 and len(summed) == len(output) == 1
    starts_alike = read[:1] == made[:1] and len(read) == rank == len(made)
    return (read, kernel, made) if is_matrix and starts_alike else None


def embedding(visit: Visit) -> list[Flow]:
    shape = visit.shapes[0]
    visit.keep(visit.inputs, f"enters {visit.path!r}, which looks its values up")
    ids = visit.computed("embeddings", 1, shape[-1])
    visit.size("output_dim", ids)
    return [Flow.along(len(shape) - 1, ids, shape)]


def convolution(visit: Visit) -> list[Flow]:
    flow, shape, layer = visit.inputs[0], visit.shapes[0], visit.layer
    rank, axis = len(shape), channel_axis(layer, len(shape))
    visit.work("kernel", _positions(shape, axis))
    ids, groups = visit.read(flow, axis), layer.groups
    if groups == 1:
        visit.use("kernel", rank - 2, ids, "input")
        return [Flow.along(axis, _outputs(visit, "filters", "kernel", rank - 1, shape[axis]), shape)]
    made = _outputs(visit, "filters", "kernel", rank - 1, shape[axis])
    if len(ids) == groups:  # one channel per group: groups leave with their channel
        visit.channels.unite(ids[:, None], made.reshape(groups, -1), f"enters {visit.path!r} in groups")
        visit.size("groups", ids)
    else:  # the same channels leave every group
        for numbers in (ids.reshape(groups, -1), made.reshape(groups, -1)):
            visit.channels.unite(numbers[:1], numbers, f"enters {visit.path!r} in groups")
        visit.use("kernel", rank - 2, ids.reshape(groups, -1)[0], "input")
    return [Flow.along(axis, made, shape)]


def transposed_convolution(visit: Visit) -> list[Flow]:
    flow, shape, layer = visit.inputs[0], visit.shapes[0], visit.layer
    rank, axis = len(shape), channel_axis(layer, len(shape))
    visit.work("kernel", _positions(flow.shape, axis))
    visit.use("kernel", rank - 1, visit.read(flow, axis), "input")
    return [Flow.along(axis, _outputs(visit, "filters", "kernel", rank - 2, shape[axis]), shape)]


def depthwise_convolution(visit: Visit) -> list[Flow]:
    flow, shape, layer = visit.inputs[0], visit.shapes[0], visit.layer
    axis = channel_axis(layer, len(shape))
    visit.work("kernel", _positions(shape, axis))
    ids = visit.read(flow, axis)
    visit.use("kernel", len(shape) - 2, ids, "input")
    ids = np.repeat(ids, layer.depth_multiplier)
    if layer.use_bias:
        visit.use("bias", 0, ids, "other")
    return [Flow.along(axis, ids, shape)]


def separable_convolution(visit: Visit) -> list[Flow]:
    flow, shape, layer = visit.inputs[0], visit.shapes[0], visit.layer
    rank, axis = len(shape), channel_axis(layer, len(shape))
    for kernel in ("depthwise_kernel", "pointwise_kernel"):
        visit.work(kernel, _positions(shape, axis))
    ids = visit.read(flow, axis)
    visit.use("depthwise_kernel", rank - 2, ids, "input")
    visit.use("pointwise_kernel", rank - 2, np.repeat(ids, layer.depth_multiplier), "input")
    return [Flow.along(axis, _outputs(visit, "filters", "pointwise_kernel", rank - 1, shape[axis]), shape)]


def _positions(shape: tuple, axis: int) -> list:
    return [size for at, size in enumerate(shape) if at not in (0, axis)]
