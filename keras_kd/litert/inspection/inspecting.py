"""The inspection of a LiteRT file."""

from __future__ import annotations

import collections
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_kd.errors import check_integer
from keras_kd.litert.file import File, Signature
from keras_kd.litert.inspection import buffers, picture, plain, text
from keras_kd.litert.inspection.facts import (
    Constant,
    Contents,
    GraphFacts,
    KindTotal,
    OperatorFacts,
    SignatureFacts,
)
from keras_kd.litert.inspection.graphs import graph_facts
from keras_kd.litert.reading import read_file
from keras_kd.tables import cut


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
        names = {
            tensor.index: name
            for signature in self.signatures
            if signature.graph == index
            for name, tensor in [*signature.inputs.items(), *signature.outputs.items()]
        }
        title = f"Graph {index} of {cut(self.name, text.WIDTH)}"
        return picture.draw(self.graphs[index], title, names)


def inspect_tflite(source: str | Path | bytes) -> Inspection:
    """Reads what a LiteRT file contains: operators, shapes, quantization, multiply-adds, and where its bytes go.

    The file is not run.

    Args:
        source: the path of a `.tflite` file, or its content.

    Raises:
        ConfigurationError: the file is missing, damaged, or not a LiteRT file.
    """
    file = read_file(source)
    name = "The content" if isinstance(source, bytes) else str(source)
    buffers.check_spans(file, name)
    named = _named_tensors(file)
    graphs = tuple(graph_facts(file, index, named[index]) for index in range(len(file.graphs)))
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


def _named_tensors(file: File) -> Mapping[int, set[int]]:
    """The tensors that signatures name, by graph."""
    named = collections.defaultdict(set)
    for signature in file.signatures:
        named[signature.graph] |= {*signature.inputs.values(), *signature.outputs.values()}
    return named


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
