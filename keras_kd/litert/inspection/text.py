"""An inspection as tables of at most 100 columns, bounded for any file: long names are cut, long lists end early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from keras_kd.litert.inspection.facts import (
    Constant,
    Contents,
    Duplicate,
    GraphFacts,
    KindTotal,
    OperatorFacts,
    SignatureFacts,
    TensorFacts,
)
from keras_kd.quantities import human_bytes, human_number
from keras_kd.tables import cut, format_table

WIDTH = 100
MAX_OPERATORS, MAX_CONSTANTS, MAX_ROWS = 1000, 10, 40
_LONG, _SHORT = 40, 20
_RIGHT = ("#", "v", "count", "bytes", "constants", "multiply-adds")
Row = tuple[str, ...]


def describe(contents: Contents, *, operators: bool = True) -> str:
    """All tables; the one with all operators is optional."""
    parts = [_head(contents), _ends(contents), _kinds(contents.kinds), _bytes(contents)]
    parts += [*_operators(contents.graphs)] if operators else []
    parts += [_constants(contents.constants), _notes(contents)]
    return "\n\n".join(part for part in parts if part)


def shape_text(shape: Sequence[int | None], width: int = _SHORT) -> str:
    """
    >>> shape_text((None, 224, 224, 3)), shape_text(())
    ('?x224x224x3', 'scalar')
    """
    sizes = ["?" if size is None else str(size) for size in shape[:width]]
    return cut("x".join(sizes), width) if sizes else "scalar"


def stored_as(tensor: TensorFacts | None) -> str:
    """The dtype and the quantization of a tensor."""
    if tensor is None:
        return "-"
    details = {
        "none": "",
        "per tensor": ", per tensor",
        "per channel": f", {tensor.num_scales} channels",
        "per block": f", blocks of {tensor.block_size}",
    }
    return f"{tensor.dtype}{details[tensor.quantization]}{', sparse' if tensor.is_sparse else ''}"


def _head(contents: Contents) -> str:
    size = f"{human_bytes(contents.file_bytes)}, {human_bytes(contents.gzip_bytes)} gzipped"
    lines = [f"{cut(contents.name, WIDTH - len(size) - 2)}: {size}"]
    written = [f"Schema {contents.schema_version}"]
    if contents.min_runtime_version:
        written.append(f"runs on TensorFlow Lite {cut(contents.min_runtime_version, _SHORT)} or later")
    if contents.description:
        written.append(f'description "{cut(contents.description, _LONG)}"')
    lines += _wrapped("", written)
    if contents.metadata:
        entries = (f"{cut(name, _LONG)} ({human_bytes(size)})" for name, size in contents.metadata.items())
        lines += _wrapped("Metadata: ", list(_limited(entries, len(contents.metadata))))
    return "\n".join(lines)


def _wrapped(start: str, items: Sequence[str]) -> list[str]:
    """Items after `start`, with commas between them, in lines that fit."""
    lines = [start]
    for number, item in enumerate(items):
        text = item + ("," if number < len(items) - 1 else ".")
        if len(lines[-1]) + len(text) > WIDTH:
            lines.append("  ")
        lines[-1] += f"{text} "
    return [line.rstrip() for line in lines]


def _limited(texts: Iterable[str], count: int, limit: int = MAX_ROWS) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number == limit:
            yield f"and {count - limit:,} more"
            return
        yield text


def _table(rows: Sequence[Row], count: int, *, flexible: int = 0, limit: int = MAX_ROWS) -> str:
    """The header and the first `limit` of `count` rows; the column `flexible` is cut so that the table fits."""
    shown = rows[: limit + 1]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    free = max(WIDTH - sum(widths) + widths[flexible] - 2 * (len(widths) - 1), 8)
    cells = [tuple(cut(cell, free if place == flexible else WIDTH) for place, cell in enumerate(row)) for row in shown]
    more = f"\n... and {count - limit:,} more" if count > limit else ""
    return format_table(cells, right=_RIGHT) + more


def _ends(contents: Contents) -> str:
    """The inputs and outputs by signature, or of the main graph."""
    signatures = contents.signatures or (_unnamed(contents.graphs[0]),)
    rows: list[Row] = [("signature", "tensor", "name", "shape", "dtype", "value of integer q")]
    count = sum(len(one.inputs) + len(one.outputs) for one in signatures)
    for signature in signatures:
        for role, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            rows += [_end(signature.key, role, *one) for one in tensors.items() if len(rows) <= MAX_ROWS]
    return _table(rows, count, flexible=2)


def _unnamed(graph: GraphFacts) -> SignatureFacts:
    return SignatureFacts(
        "(none)", 0, {one.name: one for one in graph.inputs}, {one.name: one for one in graph.outputs}
    )


def _end(key: str, role: str, name: str, tensor: TensorFacts) -> Row:
    value = "-" if tensor.quantization == "none" else tensor.quantization
    if tensor.scale is not None:
        value = f"{tensor.scale:.5g} * (q {'-' if tensor.zero_point >= 0 else '+'} {abs(tensor.zero_point)})"
    return cut(key, _SHORT), role, cut(name, WIDTH), shape_text(tensor.shape), tensor.dtype, cut(value, 26)


def _kinds(kinds: Sequence[KindTotal]) -> str:
    rows: list[Row] = [("operator", "count", "multiply-adds", "constants")]
    for one in kinds[:MAX_ROWS]:
        work = _work(one.multiply_adds, one.num_not_counted)
        rows.append((cut(one.name, _LONG), f"{one.count:,}", work, _size(one.constant_bytes)))
    count, products = sum(one.count for one in kinds), sum(one.multiply_adds or 0 for one in kinds)
    return f"{_table(rows, len(kinds))}\n{_totals(count, products, sum(one.num_not_counted for one in kinds))}"


def _totals(count: int, multiply_adds: int, num_not_counted: int) -> str:
    return f"Operators: {count:,}. Multiply-adds: {_work(multiply_adds, num_not_counted)}."


def _work(multiply_adds: int | None, num_not_counted: int = 0) -> str:
    """Multiply-adds; operators that are not counted are never shown as a 0."""
    if multiply_adds is None:
        return "not counted"
    return human_number(multiply_adds) + (f" (not counted: {num_not_counted:,})" if num_not_counted else "")


def _size(num_bytes: int) -> str:
    return human_bytes(num_bytes) if num_bytes else "-"


def _bytes(contents: Contents) -> str:
    dtypes = [f"{human_bytes(size)} {dtype}" for dtype, size in contents.bytes_by_dtype.items()]
    constants = f"Constants: {human_bytes(contents.constant_bytes)}"
    lines = _wrapped(f"{constants}: ", dtypes) if dtypes else [f"{constants}."]
    lines.append(f"Everything else: {human_bytes(contents.other_bytes)}.")
    if contents.duplicates:
        lines.append(f"Stored more than once: {human_bytes(contents.bytes_lost)} lost.")
        lines += [f"  {text}" for text in _limited(map(_copies, contents.duplicates), len(contents.duplicates), 3)]
    if contents.unused_buffers:
        count, size = len(contents.unused_buffers), human_bytes(contents.unused_bytes)
        lines.append(f"Buffers that nothing names: {count:,}, {size}.")
    return "\n".join(lines)


def _copies(one: Duplicate) -> str:
    return f"{one.copies:,} copies of {human_bytes(one.num_bytes)}: {cut(one.name or '(no tensor)', 60)}"


def _operators(graphs: Sequence[GraphFacts]) -> Iterator[str]:
    """A table for each graph, with at most `MAX_OPERATORS` rows in all of them."""
    left = MAX_OPERATORS
    for number, graph in enumerate(graphs):
        if number == MAX_ROWS:
            yield f"... and {len(graphs) - MAX_ROWS:,} more graphs"
            return
        totals = _totals(len(graph.operators), graph.multiply_adds, len(graph.not_counted))
        title = f"Graph {number}, {cut(graph.name, _LONG)}. {totals}\n" if len(graphs) > 1 else ""
        rows: list[Row] = [("#", "operator", "v", "output", "dtype", "weights", "multiply-adds", "constants")]
        rows += [_operator(one) for one in graph.operators[:left]]
        yield title + _table(rows, len(graph.operators), flexible=1, limit=left)
        left = max(0, left - len(graph.operators))


def _operator(one: OperatorFacts) -> Row:
    output = one.outputs[0] if one.outputs else None
    return (
        str(one.index),
        cut(one.name, _LONG),
        cut(str(one.version), 4),
        shape_text(output.shape, 16) if output else "-",
        cut(output.dtype, 8) if output else "-",
        cut(stored_as(one.weights), _SHORT),
        "-" if one.multiply_adds == 0 else _work(one.multiply_adds),
        _size(one.constant_bytes),
    )


def _constants(constants: Sequence[Constant]) -> str:
    rows: list[Row] = [("constant", "shape", "dtype", "bytes", "tensors")]
    rows += [
        (
            cut(one.name, WIDTH),
            shape_text(one.shape),
            one.dtype + (", sparse" if one.is_sparse else ""),
            human_bytes(one.num_bytes),
            f"{one.num_tensors:,}",
        )
        for one in constants[:MAX_CONSTANTS]
    ]
    return _table(rows, len(constants), limit=MAX_CONSTANTS) if constants else ""


def _notes(contents: Contents) -> str:
    """What the numbers leave out."""
    graphs, notes = contents.graphs, []
    if any(graph.has_open_dimensions for graph in graphs):
        notes.append("An open dimension (?) counts as 1 in multiply-adds.")
    names = sorted({one.name for graph in graphs for one in graph.not_counted})
    if names:
        shown = list(_limited((cut(name, _LONG) for name in names), len(names), 5))
        notes += _wrapped("Multiply-adds are not counted: ", shown)
    if len(graphs) > 1:
        notes.append(f"Totals count one run of each of the {len(graphs):,} graphs, however often it runs.")
    if sum(one.constant_bytes for one in contents.kinds) > contents.constant_bytes:
        notes.append("A constant that several operators read counts for each of them.")
    unused = sum(len(graph.unused_tensors) for graph in graphs)
    if unused:
        notes.append(f"Tensors that nothing names: {unused:,}.")
    if contents.num_external:
        notes.append(f"Tensors with content in other files: {contents.num_external:,}; their bytes are not included.")
    return "\n".join(notes)
