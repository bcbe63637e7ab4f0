"""Where the activations of a model are rounded, as an integer file rounds them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras

from keras_kd.compression.quantization.operations import Kind, kind_of, last_activation
from keras_kd.compression.quantization.settings import FIXED
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import Call, call_that_made, calls_of
from keras_kd.surgery.graph import count_runs, functional


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How one tensor of a model is rounded.

    Attributes:
        path: of the operation that makes it, or of the input.
        tensor: the symbolic tensor.
        runs: how often the tensor is made in one forward pass of the model, because its model runs that often.
        reason: why the tensor is not rounded by a quantizer of its own; empty if it is.
        activation: the activation that makes it, or `"linear"`.
        source: the tensor whose quantizer rounds this one as well; None for a quantizer of its own.
    """

    path: str
    tensor: keras.KerasTensor
    runs: int
    reason: str = ""
    activation: str = "linear"
    source: keras.KerasTensor | None = None


def roundings(
    model: keras.Model, skip: Collection[str], passes: Callable[[Any], bool] = lambda operation: False
) -> list[Rounding]:
    """How each floating-point tensor of a model is rounded: inputs, outputs of layers, and of bare operations.

    Operations that an integer file fuses form a unit, of which only the end is rounded: a convolution or dense layer,
    the batch normalization after it, the ReLU after that; an addition and its ReLU. The inputs of a concatenation that
    nothing else reads get its range. Poolings, reshapes and paddings pass their input through.

    Args:
        model: a graph of layers, with models nested to any depth.
        skip: the paths of layers whose outputs are not rounded.
        passes: whether a layer's output is on the grid already, such as that of an embedding with a rounded table.
    """
    return list(_Placement(set(skip), passes, count_runs(model)).of(model, ""))


class _Placement:
    def __init__(self, skip: set[str], passes: Callable[[Any], bool], runs: Mapping[int, int]):
        self.skip, self.passes, self.runs = skip, passes, runs
        self.seen: set[int] = set()

    def of(self, model: keras.Model, prefix: str) -> Iterator[Rounding]:
        self.seen.add(id(model))
        graph, runs = functional(model), self.runs[id(model)]
        calls = calls_of(graph)
        readers = collections.defaultdict(list)
        for call in calls:
            for tensor in call.inputs:
                readers[id(tensor)].append(call.operation)
        ends = {id(tensor) for tensor in graph.outputs}
        if not prefix:
            for tensor in graph.inputs:
                if _is_float(tensor):
                    yield Rounding(call_that_made(tensor)[0].operation.name, tensor, runs)
        for call in calls:
            path = f"{prefix}{call.operation.name}"
            if is_graph(call.operation):
                if id(call.operation) not in self.seen:
                    yield from self.of(call.operation, f"{path}/")
                continue
            for tensor in call.outputs:
                if _is_float(tensor):
                    alone = None if id(tensor) in ends else readers[id(tensor)]
                    yield self._rounding(
                        path, call, tensor, runs, alone, is_sequential=isinstance(model, keras.Sequential)
                    )

    def _rounding(
        self, path: str, call: Call, tensor: Any, runs: int, readers: list[Any] | None, *, is_sequential: bool
    ) -> Rounding:
        kind, reader = kind_of(call.operation), readers[0] if readers is not None and len(readers) == 1 else None

        def unrounded(reason: str) -> Rounding:
            return Rounding(path, tensor, runs, reason)

        if path in self.skip:
            return unrounded("listed in skip")
        if kind is Kind.PASSED or self.passes(call.operation):
            return unrounded("passes its input through unchanged")
        if reader is not None and not self._is_skipped(path, reader):
            follower = kind_of(reader)
            if follower is Kind.RELU and kind in (Kind.LINEAR, Kind.NORMALIZATION, Kind.ARITHMETIC):
                return unrounded(f"fused with {reader.name!r}")
            if follower is Kind.NORMALIZATION and kind is Kind.LINEAR:
                return unrounded(f"fused with {reader.name!r}")
            is_free = kind is not Kind.AVERAGED and last_activation(call.operation) not in FIXED
            if follower is Kind.JOINED and is_free and len(call.outputs) == 1:
                return unrounded(f"gets the range of {reader.name!r}")
        source = _source(call) if kind is Kind.AVERAGED and not is_sequential else None
        return Rounding(path, tensor, runs, activation=last_activation(call.operation), source=source)

    def _is_skipped(self, path: str, reader: Any) -> bool:
        around = path.rpartition("/")[0]
        return (f"{around}/{reader.name}" if around else reader.name) in self.skip


def _source(call: Call) -> Any:
    """The rounded tensor that an averaging operation reads."""
    tensor = call.inputs[0]
    while True:
        maker, _ = call_that_made(tensor)
        if not maker.inputs or is_graph(maker.operation) or kind_of(maker.operation) is not Kind.PASSED:
            return tensor
        tensor = maker.inputs[0]


def _is_float(tensor: keras.KerasTensor) -> bool:
    return "float" in str(tensor.dtype)
