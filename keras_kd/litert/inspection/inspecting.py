"""The inspection of a LiteRT file."""

from __future__ import annotations

import collections
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_kd.errors import check_integer
from keras_kd.litert.file import File, Graph, Signature, StoredOperator, StoredTensor
from keras_kd.litert.inspection import buffers, picture, plain, text
from keras_kd.litert.inspection.costs import multiply_adds
from keras_kd.litert.inspection.facts import (
    Constant,
    Contents,
    GraphFacts,
    KindTotal,
    OperatorFacts,
    SignatureFacts,
    TensorFacts,
)
from keras_kd.litert.reading import read_file

_STORAGE_FORMS = ("DEQUANTIZE", "DENSIFY")
_NOT_WEIGHTS = ("int32", "int64", "uint32", "bool", "string")
_MAX_RANK = 8


@dataclass(frozen=True)
class Inspection(Contents):
    """What a LiteRT file contains; prints as tables for a terminal of 100 columns.

    All attributes are read from the file.

        inspection = kd.export.inspect_tflite("student.tflite")
        print(inspection)
        files.write(Path("student.svg"), inspection.svg())
    """

    def __str__(self) -> str:
        return self.text()

    def text(self, *, operators: bool = True) -> str:
        """The tables; the one with all operators is optional."""
        return text.describe(self, operators=operators)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON; operators name the tensors of their graph by index."""
        return plain.as_dict(self)

    def svg(self, *, graph: int = 0) -> str:
        """A picture of a graph: its operators in order, with output shapes, and the tensors between them.

        Raises:
            ConfigurationError: the file has no such graph.
        """
        index = check_integer("graph", graph, at_least=0, at_most=len(self.graphs) - 1)
        return picture.draw(self.graphs[index], self.name)


def inspect_tflite(source: str | Path | bytes) -> Inspection:
    """Reads what a LiteRT file contains: operators, shapes, quantization, multiply-adds, and where its bytes go.

    The file is not run.

    Args:
        source: the path of a `.tflite` file, or its content.

    Raises:
        ConfigurationError: there is no such file, it is not a LiteRT file, or it is damaged.
    """
    file = read_file(source)
    name = "The content" if isinstance(source, bytes) else str(source)
    buffers.check_spans(file, name)
    named = _named_tensors(file)
    graphs = tuple(_graph(file, index, named[index]) for index in range(len(file.graphs)))
    found, unused = buffers.constants(file), buffers.unused(file)
    return Inspection(
        name=name,
        file_bytes=len(file.content),
        gzip_bytes=len(gzip.compress(file.content)),
        schema_version=file.version,
        description=file.description,
        min_runtime_version=_text(file.metadata.get("min_runtime_version", b"")),
        metadata={name: len(content) for name, content in file.metadata.items()},
        signatures=tuple(_signature(one, graphs) for one in file.signatures),
        graphs=graphs,
        kinds=_kinds(one for graph in graphs for one in graph.operators),
        constants=found,
        bytes_by_dtype=_bytes_by_dtype(found),
        duplicates=buffers.duplicates(file),
        unused_buffers=unused,
        unused_bytes=sum(file.buffers[index][1] for index in unused),
        num_external=sum(tensor.is_external for graph in file.graphs for tensor in graph.tensors),
    )


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode(errors="replace")


def _graph(file: File, number: int, named: set[int]) -> GraphFacts:
    graph = file.graphs[number]
    tensors = tuple(_tensor(file, graph, index) for index in range(len(graph.tensors)))
    stored = _stored_forms(graph, tensors)
    used = _used_tensors(graph) | named
    return GraphFacts(
        name=graph.name,
        tensors=tensors,
        operators=tuple(_operator(graph, index, tensors, stored) for index in range(len(graph.operators))),
        inputs=tuple(tensors[index] for index in graph.inputs),
        outputs=tuple(tensors[index] for index in graph.outputs),
        has_open_dimensions=any(None in tensor.shape for tensor in tensors),
        unused_tensors=tuple(tensor for tensor in tensors if tensor.index not in used),
    )


def _tensor(file: File, graph: Graph, index: int) -> TensorFacts:
    stored = graph.tensors[index]
    is_per_tensor = stored.quantization == "per tensor"
    return TensorFacts(
        index=index,
        name=stored.name,
        dtype=stored.dtype,
        shape=stored.open_shape,
        quantization=stored.quantization,
        num_scales=_num_scales(graph, stored),
        scale=stored.scales[0] if is_per_tensor else None,
        zero_point=(*stored.zero_points, 0)[0] if is_per_tensor else None,
        block_size=stored.block_size,
        num_bytes=file.stored_bytes(stored),
        is_sparse=stored.is_sparse,
    )


def _num_scales(graph: Graph, stored: StoredTensor) -> int:
    if stored.scale_tensors and len(graph.tensors[stored.scale_tensors[0]].shape) <= _MAX_RANK:
        return graph.tensors[stored.scale_tensors[0]].num_elements
    return len(stored.scales)


def _stored_forms(graph: Graph, tensors: tuple[TensorFacts, ...]) -> dict[int, TensorFacts]:
    """The constants behind tensors that are only constants in another form."""
    found: dict[int, TensorFacts] = {}
    for operator in graph.operators:
        if operator.name in _STORAGE_FORMS and len(operator.inputs) == len(operator.outputs) == 1:
            source = found.get(operator.inputs[0]) or (tensors[operator.inputs[0]] if operator.inputs[0] >= 0 else None)
            if source is not None and source.num_bytes:
                found[operator.outputs[0]] = source
    return found


def _operator(
    graph: Graph, index: int, tensors: tuple[TensorFacts, ...], stored: dict[int, TensorFacts]
) -> OperatorFacts:
    operator = graph.operators[index]
    outputs = tuple(tensors[one] for one in operator.outputs)
    constants = _constants(operator, tensors, stored)
    weights = max((one for one in constants if one.dtype not in _NOT_WEIGHTS), key=_num_bytes, default=None)
    quantized = weights or (outputs[0] if outputs else None)
    kind = quantized.quantization if quantized else "none"
    return OperatorFacts(
        index=index,
        name=operator.name,
        version=operator.version,
        is_custom=operator.is_custom,
        inputs=tuple(tensors[one] if one >= 0 else None for one in operator.inputs),
        outputs=outputs,
        weights=weights,
        quantization=kind,
        num_channels=quantized.num_scales if quantized and kind == "per channel" else 0,
        constant_bytes=sum(map(_num_bytes, constants)),
        multiply_adds=multiply_adds(operator, graph),
    )


def _num_bytes(tensor: TensorFacts) -> int:
    return tensor.num_bytes


def _constants(
    operator: StoredOperator, tensors: tuple[TensorFacts, ...], stored: dict[int, TensorFacts]
) -> list[TensorFacts]:
    """The different constants that an operator reads; none for one that only changes the form of a constant."""
    if any(index in stored for index in operator.outputs):
        return []
    read = [stored.get(index, tensors[index]) for index in sorted(set(operator.inputs) - {-1})]
    return [one for one in {one.index: one for one in read}.values() if one.num_bytes]


def _named_tensors(file: File) -> Mapping[int, set[int]]:
    """The tensors that signatures name, by graph."""
    named = collections.defaultdict(set)
    for signature in file.signatures:
        named[signature.graph] |= {*signature.inputs.values(), *signature.outputs.values()}
    return named


def _used_tensors(graph: Graph) -> set[int]:
    """The tensors that operators, the graph and the quantization of other tensors name."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used |= {*operator.inputs, *operator.outputs, *operator.intermediates}
    for tensor in graph.tensors:
        used |= {*tensor.scale_tensors}
    return used


def _signature(signature: Signature, graphs: tuple[GraphFacts, ...]) -> SignatureFacts:
    tensors = graphs[signature.graph].tensors
    return SignatureFacts(
        key=signature.key,
        graph=signature.graph,
        inputs={name: tensors[index] for name, index in signature.inputs.items()},
        outputs={name: tensors[index] for name, index in signature.outputs.items()},
    )


def _kinds(operators: Iterable[OperatorFacts]) -> tuple[KindTotal, ...]:
    members = collections.defaultdict(list)
    for one in operators:
        members[one.name].append(one)
    found = [_kind(name, same) for name, same in members.items()]
    return tuple(sorted(found, key=lambda one: (-(one.multiply_adds or 0), -one.count, one.name)))


def _kind(name: str, same: list[OperatorFacts]) -> KindTotal:
    known = [one.multiply_adds for one in same if one.multiply_adds is not None]
    return KindTotal(
        name=name,
        count=len(same),
        multiply_adds=sum(known) if known else None,
        num_not_counted=len(same) - len(known),
        constant_bytes=sum(one.constant_bytes for one in same),
    )


def _bytes_by_dtype(constants: tuple[Constant, ...]) -> dict[str, int]:
    """The largest first."""
    totals: collections.Counter[str] = collections.Counter()
    for one in constants:
        totals[one.dtype] += one.num_bytes
    return dict(totals.most_common())
