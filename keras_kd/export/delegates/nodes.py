"""An operator together with its tensors, as the rules of a delegate look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_kd.litert import File, Graph, StoredOperator, StoredTensor

_INTEGERS = ("int32", "int64")


@dataclass(frozen=True)
class Node:
    """An operator of a graph.

    Attributes:
        file: the file, for the content of constants.
        graph: the graph.
        operator: the operator.
        replaced: tensors that the delegate reads in place of others: a float16 constant for its dequantized copy.
    """

    file: File
    graph: Graph
    operator: StoredOperator
    replaced: Mapping[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.operator.name

    @property
    def inputs(self) -> tuple[StoredTensor | None, ...]:
        """The input tensors; None for a missing optional one."""
        return tuple(self._tensor(index) for index in self.operator.inputs)

    @property
    def outputs(self) -> tuple[StoredTensor | None, ...]:
        return tuple(self._tensor(index) for index in self.operator.outputs)

    @property
    def num_constants(self) -> int:
        """How many inputs are stored in the file."""
        return sum(one is not None and self.is_stored(one) for one in self.inputs)

    @property
    def num_computed(self) -> int:
        """How many inputs are computed, or inputs of the graph."""
        return sum(one is not None for one in self.inputs) - self.num_constants

    def input(self, place: int) -> StoredTensor | None:
        """The input at a place; None if the operator does not have it."""
        return self.inputs[place] if 0 <= place < len(self.operator.inputs) else None

    def output(self, place: int = 0) -> StoredTensor | None:
        return self.outputs[place] if 0 <= place < len(self.operator.outputs) else None

    def option(self, name: str, default: object = None) -> object:
        """A setting by its name in the schema."""
        return self.operator.options.get(name, default)

    def number(self, name: str, default: int = 0) -> int:
        """A setting that is a whole number."""
        value = self.option(name, default)
        return int(value) if isinstance(value, int | float) else default

    def is_stored(self, tensor: StoredTensor) -> bool:
        """Whether a tensor is a constant of the file."""
        return not tensor.is_variable and self.file.stored_bytes(tensor) > 0

    def is_constant(self, place: int) -> bool:
        """Whether the input at a place is a constant."""
        tensor = self.input(place)
        return tensor is not None and self.is_stored(tensor)

    def integers(self, place: int) -> tuple[int, ...] | None:
        """The content of a constant input of integers; None if it is not one."""
        tensor = self.input(place)
        if tensor is None or tensor.dtype not in _INTEGERS or not self.is_stored(tensor):
            return None
        content, size = self.file.data(tensor), np.dtype(tensor.dtype).itemsize
        return tuple(np.frombuffer(content[: len(content) // size * size], tensor.dtype).tolist())

    def _tensor(self, index: int) -> StoredTensor | None:
        return None if index < 0 else self.graph.tensors[self.replaced.get(index, index)]


def float16_constants(file: File, graph: Graph) -> dict[int, int]:
    """Tensors that only dequantize a float16 constant, and that constant: `{output: input}` of `DEQUANTIZE`."""
    found = {}
    for operator in graph.operators:
        if operator.name == "DEQUANTIZE" and len(operator.inputs) == len(operator.outputs) == 1:
            (source,), (target,) = operator.inputs, operator.outputs
            stored = graph.tensors[source] if source >= 0 else None
            if stored is not None and stored.dtype == "float16" and file.stored_bytes(stored):
                found[target] = source
    return found
