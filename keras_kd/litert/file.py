"""What a LiteRT file holds: graphs of tensors and operators, signatures, metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_BITS = {"bool": 8, "string": 8, "resource": 0, "variant": 0}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a graph.

    Attributes:
        name: in the file.
        dtype: such as "float32", "int8" or "int4".
        shape: without open dimensions: each is stored as 1.
        open_shape: with None for each open dimension.
        scales, zero_points: of the quantization, one number or one for each channel; empty if it is not quantized.
        axis: the dimension of the channels.
        buffer: the index of the buffer with its content; 0 if it is computed.
        is_variable: whether it keeps its content between runs.
        is_sparse: whether only its nonzero values are stored.
        is_external: whether its content lies in another file.
        block_size: the elements along an axis that share a scale; 0 unless it is quantized by blocks.
        scale_tensors: the indices of the tensors with the scales, and the zero points if there are any, of blocks.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    open_shape: tuple[int | None, ...]
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    buffer: int = 0
    is_variable: bool = False
    is_sparse: bool = False
    is_external: bool = False
    block_size: int = 0
    scale_tensors: tuple[int, ...] = ()

    @property
    def quantization(self) -> str:
        """ "none", "per tensor", "per channel" or "per block"."""
        if self.scale_tensors:
            return "per block" if self.block_size else "per channel"
        return ("none", "per tensor", "per channel")[min(len(self.scales), 2)]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Of one element; 0 for a dtype without a size."""
        return _BITS[self.dtype] if self.dtype in _BITS else int(re.findall(r"\d+", self.dtype)[0])

    @property
    def num_bytes(self) -> int:
        """The bytes of its elements at run time."""
        return -(-self.num_elements * self.bits // 8)


@dataclass(frozen=True)
class StoredOperator:
    """One operator of a graph.

    Attributes:
        name: as in LiteRT's schema, for example "CONV_2D"; the custom code of a custom operator.
        version: of the operator.
        is_custom: whether it is not one of LiteRT's own.
        inputs: the indices of its input tensors; -1 for a missing optional one.
        outputs: the indices of its output tensors.
        options: its settings, such as `{"padding": "SAME", "stride_h": 2}`, by the names of the schema.
        intermediates: the indices of tensors that only carry the quantization of inner results.
    """

    name: str
    version: int
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    intermediates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A graph: the main one, or one that an operator such as WHILE runs.

    Attributes:
        name: in the file.
        tensors: all of them; operators name them by their place.
        operators: in the order in which they run.
        inputs, outputs: the indices of the tensors.
    """

    name: str
    tensors: tuple[StoredTensor, ...]
    operators: tuple[StoredOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def dtypes(self, indices: tuple[int, ...]) -> tuple[str | None, ...]:
        """The dtypes of tensors; None for a missing one."""
        return tuple(None if index < 0 else self.tensors[index].dtype for index in indices)


@dataclass(frozen=True)
class Signature:
    """Names for the inputs and outputs of a graph.

    Attributes:
        key: the name of the signature, "serving_default" if there is only one.
        graph: the index of the graph.
        inputs, outputs: the indices of the tensors by name.
    """

    key: str
    graph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class File:
    """The content of a LiteRT file.

    Attributes:
        version: of the schema.
        description: the text of the tool that wrote it.
        graphs: the main one first.
        signatures: those in the file.
        buffers: first byte and number of bytes of each buffer in `content`.
        metadata: the buffers with further content, by name.
        content: the whole file.
        metadata_buffers: the indices of the buffers with metadata.
    """

    version: int
    description: str
    graphs: tuple[Graph, ...]
    signatures: tuple[Signature, ...]
    buffers: tuple[tuple[int, int], ...]
    metadata: Mapping[str, bytes]
    content: bytes = field(repr=False)
    metadata_buffers: frozenset[int] = frozenset()

    def data(self, tensor: StoredTensor) -> bytes:
        """The stored content of a tensor; empty if it is computed."""
        start, size = self.buffers[tensor.buffer]
        return self.content[start : start + size]

    def stored_bytes(self, tensor: StoredTensor) -> int:
        """The number of bytes that a tensor takes in the file; 0 if it is computed."""
        return self.buffers[tensor.buffer][1]
