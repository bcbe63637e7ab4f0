"""How a LiteRT file uses its bytes: constants, copies of the same content, and content that nothing names."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from keras_kd.errors import ConfigurationError, explain
from keras_kd.files import digest
from keras_kd.litert.file import File, StoredTensor
from keras_kd.litert.inspection.facts import Constant, Duplicate

Span = tuple[int, int]  # first byte, number of bytes


def check_spans(file: File, name: str) -> None:
    """Raises `ConfigurationError` if two buffers overlap; equal ones share their content on purpose."""
    end = 0
    for start, size in sorted({span for span in file.buffers if span[1]}):
        if start < end:
            problem = f"{name} is damaged."
            raise ConfigurationError(explain(problem, received="buffers that overlap", fix="Export or copy it again."))
        end = start + size


def constants(file: File) -> tuple[Constant, ...]:
    """Each stored content with the first tensor that has it, the largest first."""
    users = list(_users(file))
    counts = collections.Counter(span for span, _, _ in users)
    first = {span: (tensor, graph) for span, tensor, graph in reversed(users)}
    found = [
        Constant(tensor.name, tensor.dtype, tensor.open_shape, tensor.is_sparse, graph, span[1], counts[span])
        for span, (tensor, graph) in first.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.num_bytes, one.graph, one.name)))


def duplicates(file: File) -> tuple[Duplicate, ...]:
    """Content that is stored more than once, the largest loss first."""
    names: dict[Span, str] = {}
    for span, tensor, _ in _users(file):
        names.setdefault(span, tensor.name)
    order = {span: number for number, span in enumerate(names)}
    found = []
    for spans in _equal_spans(file):
        first = min((span for span in spans if span in order), key=order.__getitem__, default=None)
        found.append(Duplicate("" if first is None else names[first], len(spans), spans[0][1]))
    return tuple(sorted(found, key=lambda one: (-one.bytes_lost, one.name)))


def _equal_spans(file: File) -> list[list[Span]]:
    """Groups of several spans with the same content."""
    sizes, groups = collections.defaultdict(list), collections.defaultdict(list)
    for span in sorted({span for span in file.buffers if span[1]}):
        sizes[span[1]].append(span)
    for start, size in (span for same in sizes.values() if len(same) > 1 for span in same):
        groups[digest(file.content[start : start + size])].append((start, size))
    return [spans for spans in groups.values() if len(spans) > 1]


def unused(file: File) -> tuple[int, ...]:
    """The indices of the buffers with content that neither a tensor nor metadata names."""
    used = {tensor.buffer for graph in file.graphs for tensor in graph.tensors} | file.metadata_buffers
    spans = {file.buffers[index] for index in used}
    return tuple(index for index, span in enumerate(file.buffers) if span[1] and span not in spans)


def _users(file: File) -> Iterator[tuple[Span, StoredTensor, int]]:
    for number, graph in enumerate(file.graphs):
        for tensor in graph.tensors:
            if file.stored_bytes(tensor):
                yield file.buffers[tensor.buffer], tensor, number
