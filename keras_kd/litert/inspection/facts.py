"""What an inspection of a LiteRT file finds. Everything is read from the file; nothing is run or estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TensorFacts:
    """A tensor of a graph.

    Attributes:
        index: in its graph.
        name: in the file.
        dtype: such as "float32", "int8" or "int4".
        shape: None for each open dimension.
        quantization: "none", "per tensor", "per channel" or "per block".
        num_scales: the number of its scales.
        scale, zero_point: of a tensor quantized per tensor; None for others.
        block_size: the elements along an axis that share a scale; 0 unless it is quantized per block.
        num_bytes: what it takes in the file; 0 if it is computed.
        is_sparse: whether only its nonzero values are stored.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantization: str
    num_scales: int
    scale: float | None
    zero_point: int | None
    block_size: int
    num_bytes: int
    is_sparse: bool


@dataclass(frozen=True)
class OperatorFacts:
    """An operator of a graph.

    Attributes:
        index: its place in the order of execution.
        name: as in LiteRT's schema, for example "CONV_2D"; the custom code of a custom operator.
        version: of the operator.
        is_custom: whether it is not one of LiteRT's own.
        inputs: its input tensors; None for a missing optional one.
        outputs: its output tensors.
        weights: the largest of its constants that are not 32 or 64-bit integers, which are biases, shapes and indices;
            None without one. A constant that is only stored in another form (`DEQUANTIZE`, `DENSIFY`) belongs to the
            operator that reads the result: the weights of a float16 file are those of its convolutions.
        quantization: of the weights; without weights, of the first output.
        num_channels: the number of scales if the quantization is per channel, else 0.
        constant_bytes: the bytes of its constants in the file; operators that share a constant count it each.
        multiply_adds: of one run, `costs.multiply_adds`; None if they are not known.
    """

    index: int
    name: str
    version: int
    is_custom: bool
    inputs: tuple[TensorFacts | None, ...]
    outputs: tuple[TensorFacts, ...]
    weights: TensorFacts | None
    quantization: str
    num_channels: int
    constant_bytes: int
    multiply_adds: int | None


@dataclass(frozen=True)
class GraphFacts:
    """A graph: the main one, or one that a signature or an operator such as `WHILE` runs.

    Attributes:
        name: in the file.
        tensors: all of them.
        operators: in the order in which they run.
        inputs, outputs: the tensors that enter and leave it.
        has_open_dimensions: whether a tensor has an open dimension, which counts as 1 in `multiply_adds`.
        unused_tensors: those that no operator, graph or signature names.
    """

    name: str
    tensors: tuple[TensorFacts, ...]
    operators: tuple[OperatorFacts, ...]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    has_open_dimensions: bool
    unused_tensors: tuple[TensorFacts, ...]

    @property
    def multiply_adds(self) -> int:
        """Of one run, without the operators that are not counted."""
        return sum(one.multiply_adds or 0 for one in self.operators)

    @property
    def not_counted(self) -> tuple[OperatorFacts, ...]:
        """The operators whose multiply-adds are not known."""
        return tuple(one for one in self.operators if one.multiply_adds is None)


@dataclass(frozen=True)
class SignatureFacts:
    """Names for the inputs and outputs of a graph.

    Attributes:
        key: the name of the signature.
        graph: the index of the graph.
        inputs, outputs: the tensors by their names in the signature.
    """

    key: str
    graph: int
    inputs: Mapping[str, TensorFacts]
    outputs: Mapping[str, TensorFacts]


@dataclass(frozen=True)
class Constant:
    """Stored content of tensors.

    Attributes:
        name, dtype, shape, is_sparse: of the first tensor with this content.
        graph: the index of its graph.
        num_bytes: what it takes in the file.
        num_tensors: the number of tensors that share it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    is_sparse: bool
    graph: int
    num_bytes: int
    num_tensors: int


@dataclass(frozen=True)
class KindTotal:
    """All operators of one kind in all graphs.

    Attributes:
        name: of the kind.
        count: the number of operators.
        multiply_adds: of one run of each; None if those of all operators are unknown.
        num_not_counted: the number of operators whose multiply-adds are unknown.
        constant_bytes: the bytes of their constants.
    """

    name: str
    count: int
    multiply_adds: int | None
    num_not_counted: int
    constant_bytes: int


@dataclass(frozen=True)
class Duplicate:
    """Content that is stored more than once.

    Attributes:
        name: of a tensor with this content; empty if none has it.
        copies: how often it is stored.
        num_bytes: of one copy.
    """

    name: str
    copies: int
    num_bytes: int

    @property
    def bytes_lost(self) -> int:
        """The bytes of all copies but one."""
        return (self.copies - 1) * self.num_bytes


@dataclass(frozen=True)
class Contents:
    """What a LiteRT file contains.

    Attributes:
        name: the path of the file, or a text if its content was passed.
        file_bytes: the size of the file.
        gzip_bytes: its size after gzip, roughly the download size.
        schema_version: of the schema that it was written in.
        description: the text of the tool that wrote it.
        min_runtime_version: the oldest TensorFlow Lite that runs it, from its metadata; empty if it is not stored.
        metadata: the bytes of each metadata entry by name.
        signatures: empty if the file has none.
        graphs: the main one first.
        kinds: totals by kind of operator, by multiply-adds and count.
        constants: the largest first; content that tensors share is one constant.
        bytes_by_dtype: the bytes of the constants by dtype.
        duplicates: content that is stored more than once, the largest loss first.
        unused_buffers: the indices of the buffers with content that neither a tensor nor metadata names.
        unused_bytes: their bytes.
        num_external: the number of tensors whose content lies in other files; it is not part of any number here.
    """

    name: str
    file_bytes: int
    gzip_bytes: int
    schema_version: int
    description: str
    min_runtime_version: str
    metadata: Mapping[str, int]
    signatures: tuple[SignatureFacts, ...]
    graphs: tuple[GraphFacts, ...] = field(repr=False)
    kinds: tuple[KindTotal, ...]
    constants: tuple[Constant, ...] = field(repr=False)
    bytes_by_dtype: Mapping[str, int]
    duplicates: tuple[Duplicate, ...]
    unused_buffers: tuple[int, ...]
    unused_bytes: int
    num_external: int

    @property
    def multiply_adds(self) -> int:
        """Of one run of the main graph, without the operators that are not counted."""
        return self.graphs[0].multiply_adds

    @property
    def constant_bytes(self) -> int:
        """The bytes of all constants."""
        return sum(self.bytes_by_dtype.values())

    @property
    def other_bytes(self) -> int:
        """The bytes of everything but constants: graphs, names, quantization, metadata, unused buffers."""
        return self.file_bytes - self.constant_bytes

    @property
    def bytes_lost(self) -> int:
        """The bytes of duplicates."""
        return sum(one.bytes_lost for one in self.duplicates)
