"""Random inputs for a LiteRT file: of its types and shapes, and of values that its operators take."""

from __future__ import annotations

import math

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert.file import File, Graph, StoredTensor
from keras_kd.litert.graph import named_ends

_LOOKUPS = {"GATHER": (1, 0), "EMBEDDING_LOOKUP": (0, 1)}  # the places of the indices and of the table
_SMALL = ("int8", "uint8")
_MAX_BYTES = 2**31


def random_inputs(file: File, *, open_size: int = 1, seed: int = 0) -> dict[int, np.ndarray]:
    """Contents for the inputs of the main graph, by the index of the tensor.

    Quantized inputs and those of 8 bits take every value of their type, indices of a table every row of it, other
    integers 0 or 1, real numbers values from 0 to 1.

    Args:
        file: the file.
        open_size: the size of open dimensions; an open first one, the batch, has size 1.
        seed: of the values.

    Raises:
        ConfigurationError: an input is of a type that has no random values, such as text, or does not fit in memory.
    """
    graph, generator = file.graphs[0], np.random.default_rng(seed)
    limits = index_limits(graph)
    return {
        index: _content(name, graph.tensors[index], open_size, limits.get(index), generator)
        for name, index in named_ends(file)[0]
    }


def index_limits(graph: Graph) -> dict[int, int]:
    """The number of rows of the smallest table that each input indexes, directly or after other operators."""
    producers = {output: operator for operator in graph.operators for output in operator.outputs}
    limits: dict[int, int] = {}
    for operator in graph.operators:
        rows = _rows(graph, operator)
        for index in _sources(operator.inputs[_LOOKUPS[operator.name][0]], producers) if rows else ():
            limits[index] = min(rows, limits.get(index, rows))
    return {index: limits[index] for index in graph.inputs if index in limits}


def input_range(tensor: StoredTensor, limit: int | None) -> tuple[int, int] | None:
    """The smallest and the largest integer for an input, both included; None for real numbers.

    Args:
        tensor: the input.
        limit: the number of rows of the table that it indexes, if any.
    """
    if not tensor.dtype.startswith(("int", "uint")):
        return None
    if tensor.scales or (limit is None and tensor.dtype in _SMALL):
        limits = np.iinfo(tensor.dtype if tensor.bits >= 8 else "int8")
        return int(limits.min), int(limits.max)
    return 0, (2 if limit is None else limit) - 1


def input_shape(tensor: StoredTensor, open_size: int = 1) -> tuple[int, ...]:
    """The shape of an input with sizes for its open dimensions; see `random_inputs`."""
    sizes = tensor.open_shape or tensor.shape
    return tuple((1 if axis == 0 else open_size) if size is None else size for axis, size in enumerate(sizes))


def describe(content: np.ndarray) -> str:
    """Shape and dtype of an array, such as "1x8x8x1 float32"."""
    return f"{'x'.join(map(str, content.shape)) or 'scalar'} {content.dtype}"


def _rows(graph: Graph, operator) -> int:
    """The number of rows of the table of a lookup; 0 for other operators."""
    if operator.name not in _LOOKUPS or len(operator.inputs) < 2:
        return 0
    table = operator.inputs[_LOOKUPS[operator.name][1]]
    shape = graph.tensors[table].shape if table >= 0 else ()
    axis = int(operator.options.get("axis", 0) or 0)
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


def _sources(index: int, producers: dict) -> set[int]:
    """The tensor, and all tensors that it is computed from."""
    found, waiting = set(), [index]
    while waiting:
        one = waiting.pop()
        if one >= 0 and one not in found:
            found.add(one)
            waiting.extend(producers[one].inputs if one in producers else ())
    return found


def _content(
    name: str, tensor: StoredTensor, open_size: int, limit: int | None, generator: np.random.Generator
) -> np.ndarray:
    shape = input_shape(tensor, open_size)
    if math.prod(shape) * max(tensor.bits, 8) // 8 > _MAX_BYTES:
        problem = f"The input {name!r} does not fit in memory."
        raise ConfigurationError(explain(problem, received=f"shape {shape}", expected=f"at most {_MAX_BYTES:,} bytes"))
    limits = input_range(tensor, limit)
    if limits is not None:
        dtype = tensor.dtype if tensor.bits >= 8 else "int8"
        return generator.integers(limits[0], limits[1], shape, dtype, endpoint=True)
    if tensor.dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if tensor.dtype in ("float16", "float32", "float64"):
        return generator.random(shape).astype(tensor.dtype)
    expected = "numbers"
    raise ConfigurationError(
        explain(f"The input {name!r} cannot be filled at random.", received=tensor.dtype, expected=expected)
    )
