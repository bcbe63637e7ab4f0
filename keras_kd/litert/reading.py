"""Reads a LiteRT file without running it.

A file may be damaged or made to harm: every index is checked, and the work is limited by the size of the file.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert.file import File, Graph, Signature, StoredOperator, StoredTensor

IDENTIFIER = b"TFL3"
_DAMAGE = (struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError)
_READS_PER_BYTE = 8  # vectors may share their content, but not often
_ENUMERATIONS = {
    "fused_activation_function": "ActivationFunctionType",
    "in_data_type": "TensorType",
    "mode": "MirrorPadMode",
    "out_data_type": "TensorType",
    "output_type": "TensorType",
    "padding": "Padding",
    "quantized_bias_type": "TensorType",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
}


def read_file(source: str | Path | bytes) -> File:
    """Reads a LiteRT file, or its content.

    Raises:
        ConfigurationError: the file is missing, damaged, or not a LiteRT file.
    """
    if not isinstance(source, (bytes, str, os.PathLike)):
        problem = explain("This is not a LiteRT file.", received=type(source).__name__, expected="a path, or bytes")
        raise ConfigurationError(problem)
    content = source if isinstance(source, bytes) else _content(Path(source))
    name = "The content" if isinstance(source, bytes) else str(source)
    if content[4:8] != IDENTIFIER:
        raise ConfigurationError(
            explain(
                f"{name} is not a LiteRT (`.tflite`) file.",
                received=f"{len(content):,} bytes that begin with {content[:8]!r}",
                expected=f"{IDENTIFIER!r} in bytes 4 to 7",
            )
        )
    try:
        return _Reader(content).file()
    except _DAMAGE as error:
        raise ConfigurationError(
            explain(f"{name} is damaged.", received=str(error) or type(error).__name__, fix="Export or copy it again.")
        ) from error


def _content(path: Path) -> bytes:
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():  # a device or a pipe may never end
            raise OSError(errno.EINVAL, "Not a regular file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        problem = f"{path} cannot be read: {getattr(error, 'strerror', error)}."
        raise ConfigurationError(explain(problem, fix="Write it with `export_tflite`.")) from error


class _Reader:
    """Reads one file. An error of `_DAMAGE` means that the file is damaged."""

    def __init__(self, content: bytes):
        from ai_edge_litert import schema_py_generated as schema

        self._schema, self._content = schema, content
        self._address = np.frombuffer(content, np.uint8).ctypes.data
        self._left = _READS_PER_BYTE * len(content)

    def file(self) -> File:
        model = self._schema.Model.GetRootAs(self._content, 0)
        codes = self._each(model.OperatorCodesLength(), model.OperatorCodes, self._code)
        buffers = self._each(model.BuffersLength(), model.Buffers, self._buffer)
        graphs = self._each(
            model.SubgraphsLength(), model.Subgraphs, lambda graph: self._graph(graph, codes, len(buffers))
        )
        if not graphs:
            raise ValueError("it has no graph")
        signatures = self._each(
            model.SignatureDefsLength(), model.SignatureDefs, lambda one: self._signature(one, graphs)
        )
        named = self._each(model.MetadataLength(), model.Metadata, lambda one: (self._text(one.Name()), one.Buffer()))
        spans = {name: buffers[index] for name, index in named}
        self._spend(sum(size for _, size in spans.values()) // _READS_PER_BYTE)
        metadata = {name: self._content[start : start + size] for name, (start, size) in spans.items()}
        description = self._text(model.Description())
        indices = frozenset(index for _, index in named)
        return File(model.Version(), description, graphs, signatures, buffers, metadata, self._content, indices)

    def _spend(self, count: int) -> None:
        self._left -= count + 1
        if count < 0 or self._left < 0:
            raise ValueError("lists that are longer than the file")

    def _each(self, length: int, get: Callable[[int], Any], read: Callable[[Any], Any]) -> tuple[Any, ...]:
        self._spend(length)
        return tuple(read(get(number)) for number in range(length))

    def _signature(self, signature: Any, graphs: tuple[Graph, ...]) -> Signature:
        index = signature.SubgraphIndex()
        num_tensors = len(graphs[index].tensors)

        def named(one: Any) -> tuple[str, int]:
            if one.TensorIndex() >= num_tensors:
                raise ValueError(f"tensor {one.TensorIndex()} of {num_tensors}")
            return self._text(one.Name()), one.TensorIndex()

        inputs = self._each(signature.InputsLength(), signature.Inputs, named)
        outputs = self._each(signature.OutputsLength(), signature.Outputs, named)
        return Signature(self._text(signature.SignatureKey()), index, dict(inputs), dict(outputs))

    def _numbers(self, array: Any) -> tuple[Any, ...]:
        if isinstance(array, int):  # flatbuffers returns 0 for a missing vector
            return ()
        self._spend(len(array))
        return tuple(array.tolist())

    def _text(self, text: bytes | None) -> str:
        self._spend(len(text or b""))
        return (text or b"").decode(errors="replace")

    def _code(self, code: Any) -> tuple[str, int, bool]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files set only the second
        is_custom = number == self._schema.BuiltinOperator.CUSTOM
        name = self._text(code.CustomCode()) if is_custom else _names(self._schema.BuiltinOperator)[number]
        return name, code.Version(), is_custom

    def _buffer(self, buffer: Any) -> tuple[int, int]:
        if buffer.Offset() > 1:  # of a file that is larger than 2 GB; 1 marks an empty buffer
            start, size = buffer.Offset(), buffer.Size()
        else:
            size = buffer.DataLength()
            start = buffer.DataAsNumpy().ctypes.data - self._address if size else 0
        if not 0 <= start <= start + size <= len(self._content):
            raise ValueError(f"a buffer beyond the end, bytes {start:,} to {start + size:,} of {len(self._content):,}")
        return start, size

    def _graph(self, graph: Any, codes: tuple[tuple[str, int, bool], ...], num_buffers: int) -> Graph:
        num_tensors = graph.TensorsLength()
        tensors = self._each(num_tensors, graph.Tensors, lambda one: self._tensor(one, num_buffers, num_tensors))
        operators = self._each(
            graph.OperatorsLength(), graph.Operators, lambda one: self._operator(one, codes, num_tensors)
        )
        ends = [self._indices(array, 0, num_tensors) for array in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())]
        return Graph(self._text(graph.Name()), tensors, operators, *ends)

    def _indices(self, array: Any, least: int, end: int) -> tuple[int, ...]:
        indices = self._numbers(array)
        if wrong := [index for index in indices if not least <= index < end]:
            raise ValueError(f"tensor {wrong[0]} of {end}")
        return indices

    def _tensor(self, tensor: Any, num_buffers: int, num_tensors: int) -> StoredTensor:
        shape = self._numbers(tensor.ShapeAsNumpy())
        signature = self._numbers(tensor.ShapeSignatureAsNumpy())
        if len(signature) != len(shape):
            signature = shape
        if wrong := [size for size in shape if size < 0]:
            raise ValueError(f"a tensor with a dimension of {wrong[0]}")
        if not 0 <= tensor.Buffer() < num_buffers:
            raise ValueError(f"buffer {tensor.Buffer()} of {num_buffers}")
        return StoredTensor(
            name=self._text(tensor.Name()),
            dtype=_names(self._schema.TensorType)[tensor.Type()].lower(),
            shape=shape,
            open_shape=tuple(None if size < 0 else size for size in signature),
            buffer=tensor.Buffer(),
            is_variable=bool(tensor.IsVariable()),
            is_sparse=tensor.Sparsity() is not None,
            is_external=tensor.ExternalBuffer() > 0,
            **self._quantization(tensor.Quantization(), num_tensors),
        )

    def _quantization(self, found: Any, num_tensors: int) -> dict[str, Any]:
        if found is None:
            return {}
        scales, zeros = self._numbers(found.ScaleAsNumpy()), self._numbers(found.ZeroPointAsNumpy())
        result = {"scales": scales, "zero_points": zeros, "axis": found.QuantizedDimension()}
        kind = _names(self._schema.QuantizationDetails)[found.DetailsType()]
        table = found.Details() if kind in ("BlockwiseQuantization", "MultiAxisQuantization") else None
        return result if table is None else result | self._blocks(getattr(self._schema, kind)(), table, num_tensors)

    def _blocks(self, details: Any, table: Any, num_tensors: int) -> dict[str, Any]:
        details.Init(table.Bytes, table.Pos)
        zero_points = details.ZeroPoints()
        stored = (details.Scales(), zero_points) if zero_points > 0 else (details.Scales(),)
        if wrong := [index for index in stored if not 0 <= index < num_tensors]:
            raise ValueError(f"tensor {wrong[0]} of {num_tensors}")
        return {"block_size": details.BlockSize(), "scale_tensors": stored}

    def _operator(self, operator: Any, codes: tuple[tuple[str, int, bool], ...], num_tensors: int) -> StoredOperator:
        name, version, is_custom = codes[operator.OpcodeIndex()]
        inputs = self._indices(operator.InputsAsNumpy(), -1, num_tensors)
        outputs = self._indices(operator.OutputsAsNumpy(), 0, num_tensors)
        options: dict[str, Any] = {}
        for kind, union in (("BuiltinOptions", operator.BuiltinOptions), ("BuiltinOptions2", operator.BuiltinOptions2)):
            number = getattr(operator, f"{kind}Type")()
            table = union() if number else None
            if table is not None:
                options |= self._options(getattr(self._schema, _names(getattr(self._schema, kind))[number]), table)
        intermediates = self._indices(operator.IntermediatesAsNumpy(), -1, num_tensors)
        return StoredOperator(name, version, is_custom, inputs, outputs, options, intermediates)

    def _options(self, kind: type, table: Any) -> dict[str, Any]:
        stored, options = kind(), {}
        stored.Init(table.Bytes, table.Pos)
        for getter, name in _numbers_of(kind).items():
            value = self._numbers(value) if isinstance(value := getattr(stored, getter)(), np.ndarray) else value
            if name in _ENUMERATIONS and isinstance(value, int):
                value = _names(getattr(self._schema, _ENUMERATIONS[name])).get(value, value)
            options[name] = value
        return options


@functools.cache
def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


@functools.cache
def _numbers_of(kind: type) -> dict[str, str]:
    """The methods of an options table that return a number or an array, and the names of these settings."""
    members = [name for name in vars(kind) if name[0].isupper() and not name.startswith("GetRootAs")]
    vectors = {name.removesuffix("Length") for name in members if name.endswith("Length")}
    unions = {name.removesuffix("Type") for name in members if name.endswith("Type") and name[:-4] in members}
    found = {}
    for name in members:
        if name in vectors:
            found[f"{name}AsNumpy"] = _snake(name)
        elif name != "Init" and name not in unions and not re.search(r"(AsNumpy|IsNone|Length|HasIdentifier)$", name):
            found[name] = _snake(name)
    return {getter: name for getter, name in found.items() if getter in vars(kind)}


def _snake(name: str) -> str:
    """
    >>> _snake("FusedActivationFunction"), _snake("DilationHFactor")
    ('fused_activation_function', 'dilation_h_factor')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
