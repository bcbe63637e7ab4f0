"""A drawn graph of a LiteRT file: boxes in the order of execution, from top to bottom in columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from keras_kd import svg
from keras_kd.files import digest
from keras_kd.litert.inspection.facts import GraphFacts, TensorFacts
from keras_kd.litert.inspection.text import shape_text
from keras_kd.tables import cut

MAX_BOXES, MAX_EDGES, ROWS = 1500, 20_000, 30
_BOX_WIDTH, _BOX_HEIGHT, _COLUMN, _ROW, _MARGIN = 196, 38, 300, 62, 40
_LEGEND = 34
_INTEGERS = ("int", "uint")
_COLORS = {"float": svg.ORANGE, "integer": svg.BLUE, "other": svg.MUTED, "end": svg.INK}
_LABELS = {
    "float": "float output",
    "integer": "integer output",
    "other": "other output",
    "end": "input or output of the graph",
}


class Box(NamedTuple):
    """What is drawn for an operator, an input or an output.

    Attributes:
        label: the first line.
        detail: the second line.
        kind: "float", "integer" or "other", by the dtype of the first output; "end" for inputs and outputs.
        reads, writes: the indices of the tensors.
    """

    label: str
    detail: str
    kind: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]


def draw(graph: GraphFacts, title: str, names: Mapping[int, str]) -> str:
    """A graph as an SVG document: inputs, operators in order and outputs; constants are left out.

    Of a longer graph, the first 1,500 boxes are drawn, which the description says.

    Args:
        graph: the graph.
        title: of the picture.
        names: better names than the file's for tensors, by index.
    """
    every = list(boxes(graph, names))
    shown = every[:MAX_BOXES]
    lines = list(itertools.islice(edges(shown), MAX_EDGES))
    places = [_place(number) for number in range(len(shown))]
    name = f"graph-{digest(title, *map(repr, shown))[:8]}"  # several pictures may be in one page
    body = _arrow(name) + _legend(shown)
    body += "".join(_edge(places[start], places[end], name, is_next=end == start + 1) for start, end in lines)
    body += "".join(_box(box, place) for box, place in zip(shown, places, strict=True))
    width = _MARGIN * 2 + _BOX_WIDTH + _COLUMN * max(0, -(-len(shown) // ROWS) - 1)
    height = _MARGIN * 2 + _LEGEND + _ROW * min(len(shown), ROWS) - (_ROW - _BOX_HEIGHT)
    return svg.document(
        body,
        name=name,
        box=f"0 0 {max(width, 680)} {height}",
        title=title,
        description=_description(graph, len(every), len(shown), len(lines)),
    )


def boxes(graph: GraphFacts, names: Mapping[int, str]) -> Iterator[Box]:
    """The inputs, the operators in order, and the outputs."""
    for tensor in graph.inputs:
        yield Box(cut(names.get(tensor.index, tensor.name), 26), _output(tensor), "end", (), (tensor.index,))
    for one in graph.operators:
        first = one.outputs[0] if one.outputs else None
        reads = tuple(tensor.index for tensor in one.inputs if tensor)
        yield Box(cut(one.name, 26), _output(first), _kind(first), reads, tuple(each.index for each in one.outputs))
    for tensor in graph.outputs:
        yield Box(cut(names.get(tensor.index, tensor.name), 26), _output(tensor), "end", (tensor.index,), ())


def edges(shown: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """The pairs (box that writes a tensor, box that reads it), each pair once."""
    writers: dict[int, int] = {}
    for number, box in enumerate(shown):
        for index in box.writes:
            writers.setdefault(index, number)
    for number, box in enumerate(shown):
        yield from ((start, number) for start in sorted({writers[i] for i in box.reads if i in writers}))


def _output(tensor: TensorFacts | None) -> str:
    return f"{shape_text(tensor.shape)} {tensor.dtype}" if tensor else "no output"


def _kind(tensor: TensorFacts | None) -> str:
    dtype = tensor.dtype if tensor else ""
    if "float" in dtype:
        return "float"
    return "integer" if dtype.startswith(_INTEGERS) else "other"


def _place(number: int) -> tuple[int, int]:
    """The left upper corner of a box."""
    return _MARGIN + number // ROWS * _COLUMN, _MARGIN + _LEGEND + number % ROWS * _ROW


def _box(box: Box, place: tuple[int, int]) -> str:
    (x, y), color = place, svg.paint(_COLORS[box.kind])
    middle, radius = x + _BOX_WIDTH // 2, _BOX_HEIGHT // 2 if box.kind == "end" else 5
    return (
        f'<g class="box {box.kind}"><rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="{radius}" '
        f'fill="{svg.paint(svg.CARD)}" stroke="{color}" stroke-width="1.6"/>'
        f'<text x="{middle}" y="{y + 16}" font-size="11" font-weight="600" text-anchor="middle" fill="{color}">'
        f'{escape(box.label)}</text><text x="{middle}" y="{y + 31}" font-size="10.5" text-anchor="middle" '
        f'fill="{svg.paint(svg.INK)}">{escape(box.detail)}</text></g>'
    )


def _edge(start: tuple[int, int], end: tuple[int, int], name: str, *, is_next: bool) -> str:
    """Straight down to the next box; past other boxes by a curve on the right; to the left of another column."""
    (x1, y1), (x2, y2) = start, end
    if x1 == x2 and is_next:
        middle = x1 + _BOX_WIDTH // 2
        path = f"M{middle} {y1 + _BOX_HEIGHT}V{y2 - 2}"
    elif x1 == x2:
        right, top, bottom = x1 + _BOX_WIDTH, y1 + _BOX_HEIGHT // 2, y2 + _BOX_HEIGHT // 2
        bulge = right + min(24 + abs(bottom - top) // 12, _COLUMN - _BOX_WIDTH - 10)
        path = f"M{right} {top}C{bulge} {top} {bulge} {bottom} {right + 2} {bottom}"
    else:
        right, left, top, bottom = x1 + _BOX_WIDTH, x2, y1 + _BOX_HEIGHT // 2, y2 + _BOX_HEIGHT // 2
        path = f"M{right} {top}C{right + 60} {top} {left - 60} {bottom} {left - 2} {bottom}"
    return (
        f'<path class="edge" d="{path}" fill="none" stroke="{svg.paint(svg.MUTED)}" stroke-width="1.1" '
        f'marker-end="url(#{name}-arrow)"/>'
    )


def _arrow(name: str) -> str:
    return (
        f'<defs><marker id="{name}-arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{svg.paint(svg.MUTED)}"/></marker></defs>'
    )


def _legend(shown: Sequence[Box]) -> str:
    kinds = [kind for kind in _COLORS if any(box.kind == kind for box in shown)]
    return "".join(
        f'<g class="legend"><rect x="{_MARGIN + 140 * number}" y="{_MARGIN - 14}" width="12" height="12" rx="2" '
        f'fill="{svg.paint(_COLORS[kind])}"/><text x="{_MARGIN + 18 + 140 * number}" y="{_MARGIN - 4}" font-size="11" '
        f'fill="{svg.paint(svg.INK)}">{_LABELS[kind]}</text></g>'
        for number, kind in enumerate(kinds)
    )


def _description(graph: GraphFacts, num_boxes: int, num_shown: int, num_edges: int) -> str:
    text = (
        f"{len(graph.operators):,} operators in the order of execution, from top to bottom in columns, each with the "
        f"shape and dtype of its first output; {len(graph.inputs)} inputs and {len(graph.outputs)} outputs."
    )
    text += "" if num_boxes == num_shown else f" The first {num_shown:,} of {num_boxes:,} boxes are drawn."
    return text if num_edges < MAX_EDGES else f"{text} Only the first {MAX_EDGES:,} connections are drawn."
