"""The multiply-adds of one operator, from the shapes in the file.

Counted are the products of convolutions, matrices and recurrent nets, as in the tables of published papers; biases,
activations, pooling and elementwise operators count as 0. The roles of inputs are those of LiteRT's kernels
(`tflite/kernels/`, commit f674577, 2026-08-21), named in each function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from keras_kd.litert.file import Graph, StoredOperator

_MAX_RANK = 8
_RUNS_OTHERS = ("CALL", "CALL_ONCE", "DELEGATE", "IF", "WHILE")
Shape = tuple[int, ...]


def multiply_adds(operator: StoredOperator, graph: Graph) -> int | None:
    """The multiply-adds of one run of an operator; an open dimension counts as 1.

    Returns:
        0 for operators without matrix products. None if they are not known: operators that run other graphs
        (`WHILE`, `IF`, `CALL_ONCE`), custom ones, those of StableHLO, and shapes that do not fit the operator.
    """
    if operator.is_custom or operator.name in _RUNS_OTHERS or operator.name.startswith("STABLEHLO_"):
        return None
    count = _COUNTS.get(operator.name)
    if count is None:
        return 0
    try:
        return count(operator, _Shapes(operator, graph))
    except _UnknownShapeError:
        return None


class _UnknownShapeError(Exception):
    """A tensor is missing or has another rank."""


class _Shapes:
    """The shapes of an operator's tensors by their place, each with the rank that the formula needs."""

    def __init__(self, operator: StoredOperator, graph: Graph):
        self._operator, self._graph = operator, graph

    def input(self, place: int, *ranks: int) -> Shape:
        return self._shape(self._operator.inputs, place, ranks)

    def output(self, *ranks: int) -> Shape:
        return self._shape(self._operator.outputs, 0, ranks)

    def has_input(self, place: int) -> bool:
        return place < len(self._operator.inputs) and self._operator.inputs[place] >= 0

    def _shape(self, indices: tuple[int, ...], place: int, ranks: tuple[int, ...]) -> Shape:
        if place >= len(indices) or indices[place] < 0:
            raise _UnknownShapeError
        shape = self._graph.tensors[indices[place]].shape
        if len(shape) not in (ranks or range(1, _MAX_RANK + 1)):
            raise _UnknownShapeError
        return shape


def _conv_2d(_: StoredOperator, shapes: _Shapes) -> int:
    """Filter [out, height, width, in / groups]; conv.cc."""
    return math.prod(shapes.output(4)) * math.prod(shapes.input(1, 4)[1:])


def _depthwise_conv_2d(_: StoredOperator, shapes: _Shapes) -> int:
    """Filter [1, height, width, out]; depthwise_conv.cc."""
    return math.prod(shapes.output(4)) * math.prod(shapes.input(1, 4)[1:3])


def _conv_3d(_: StoredOperator, shapes: _Shapes) -> int:
    """Filter [depth, height, width, in / groups, out]; conv3d.cc."""
    return math.prod(shapes.output(5)) * math.prod(shapes.input(1, 5)[:4])


def _transpose_conv(_: StoredOperator, shapes: _Shapes) -> int:
    """Output shape, filter [out, height, width, in], input; transpose_conv.cc. What the padding cuts off counts too."""
    return math.prod(shapes.input(2, 4)) * math.prod(shapes.input(1, 4)[:3])


def _conv_3d_transpose(_: StoredOperator, shapes: _Shapes) -> int:
    """Output shape, filter [depth, height, width, out, in], input; conv3d_transpose.cc."""
    return math.prod(shapes.input(2, 5)) * math.prod(shapes.input(1, 5)[:4])


def _fully_connected(_: StoredOperator, shapes: _Shapes) -> int:
    """Weights [units, in]; fully_connected.cc."""
    return math.prod(shapes.output()) * shapes.input(1, 2)[1]


def _batch_matmul(operator: StoredOperator, shapes: _Shapes) -> int:
    """[..., m, k] by [..., k, n], each transposed on request; batch_matmul.cc."""
    first = shapes.input(0, *range(2, _MAX_RANK + 1))
    return math.prod(shapes.output()) * first[-2 if operator.options.get("adj_x") else -1]


def _recurrent(*places: int) -> Callable[[StoredOperator, _Shapes], int]:
    """Each matrix among the inputs at `places` is used once for each step and example of the input."""

    def count(_: StoredOperator, shapes: _Shapes) -> int:
        steps = math.prod(shapes.input(0, 2, 3)[:-1])
        return steps * sum(math.prod(shapes.input(place, 2)) for place in places if shapes.has_input(place))

    return count


_LSTM = _recurrent(*range(1, 9), 16)  # lstm_shared.h


def _lstm(operator: StoredOperator, shapes: _Shapes) -> int:
    """The basic kernel, 1, has one matrix for input and state, the third input; lstm.cc."""
    return (_recurrent(2) if operator.options.get("kernel_type") == 1 else _LSTM)(operator, shapes)


_COUNTS: Mapping[str, Callable[[StoredOperator, _Shapes], int]] = MappingProxyType(
    {
        "BATCH_MATMUL": _batch_matmul,
        # bidirectional_sequence_lstm.cc and bidirectional_sequence_rnn.cc: forward, backward, auxiliary input
        "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(*range(1, 9), 16, *range(18, 26), 33, *range(40, 48)),
        "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent(1, 2, 5, 6, 10, 11),
        "CONV_2D": _conv_2d,
        "CONV_3D": _conv_3d,
        "CONV_3D_TRANSPOSE": _conv_3d_transpose,
        "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
        "FULLY_CONNECTED": _fully_connected,
        "LSTM": _lstm,
        "RNN": _recurrent(1, 2),  # basic_rnn.cc
        "SVDF": _recurrent(1, 2),  # svdf.cc
        "TRANSPOSE_CONV": _transpose_conv,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
        "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent(1, 2),  # unidirectional_sequence_rnn.cc
    }
)
