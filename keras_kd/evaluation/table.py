"""The rows of a report as a table: its columns and cells, and the table in a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_kd import tasks
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow, with_role
from keras_kd.evaluation.scale import percent
from keras_kd.evaluation.summary import likeness, milliseconds, number
from keras_kd.quantities import human_bytes
from keras_kd.tasks import Measure

if TYPE_CHECKING:
    from rich.table import Table


class _Column(NamedTuple):
    title: str
    short: str
    value: Callable[[ModelRow], Any]
    best: Callable[..., Any]
    show: Callable[[ModelRow, int], str]  # row, test size
    detail: Callable[[ModelRow, Report], str] = lambda row, report: ""


class _Cell(NamedTuple):
    text: str
    detail: str
    best: bool


def grid(report: Report, shown: Sequence[_Column] | None = None) -> list[tuple[ModelRow, list[_Cell]]]:
    """Each row with its cells, for all columns by default; the best value is marked unless most rows share it."""
    shown, best = shown or columns(report), []
    for column in shown:
        known = [value for row in report.rows if (value := column.value(row)) is not None]
        top = column.best(known, default=None)
        best.append(top if 2 * known.count(top) <= len(known) else None)
    return [
        (row, [_cell(report, row, column, top) for column, top in zip(shown, best, strict=True)]) for row in report.rows
    ]


def _cell(report: Report, row: ModelRow, column: _Column, best: Any) -> _Cell:
    if column.value(row) is None:
        return _Cell("–", "", False)
    text, detail = column.show(row, report.test_size), column.detail(row, report)
    return _Cell(text, detail, column.value(row) == best)


def _share_of_teacher(row: ModelRow, report: Report) -> str:
    teacher = with_role(report.rows, Role.TEACHER)
    if teacher is None or row is teacher or not row.parameters or not teacher.parameters:
        return ""
    ratio = teacher.parameters / row.parameters
    return f"1/{number(ratio)}" if ratio >= 1 else f"{number(1 / ratio)}x"


def _interval(row: ModelRow, report: Report) -> str:
    scale = report.scale
    if not scale.has_interval(row):
        return ""
    return "–".join(_measured(scale.measure, end, report.test_size) for end in scale.interval(row))


_SIZES = (
    _Column(
        "Parameters",
        "Parameters",
        lambda r: r.parameters,
        min,
        lambda r, _: f"{r.parameters:,}",
        _share_of_teacher,
    ),
    _Column("File size", "Size", lambda r: r.num_bytes, min, lambda r, _: human_bytes(r.num_bytes)),
    _Column("gzip", "gzip", lambda r: r.gzip_bytes, min, lambda r, _: human_bytes(r.gzip_bytes)),
)
_AGREEMENT = _Column("Agreement %", "Agree", lambda r: r.agreement, max, lambda r, n: percent(r.agreement, n))
_LATENCY = _Column(
    "p50/p95 ms",
    "p50/p95 ms",
    lambda r: r.latency_p50_ms,
    min,
    lambda r, _: f"{milliseconds(r.latency_p50_ms)}/{milliseconds(r.latency_p95_ms)}",
)


def columns(report: Report) -> tuple[_Column, ...]:
    """Sizes, the measures of the task, agreement if the task has it, and latency."""
    task = tasks.get(report.task)
    measures = tuple(_measure_column(measure, is_first=measure is task.headline) for measure in task.measures)
    has_agreement = task.has_classes or any(row.agreement is not None for row in report.rows)
    return (*_SIZES, *measures, *((_AGREEMENT,) if has_agreement else ()), _LATENCY)


def _measure_column(measure: Measure, *, is_first: bool) -> _Column:
    def show(row: ModelRow, test_size: int) -> str:
        return _measured(measure, row.values[measure.name], test_size)

    sign = " %" if measure.is_share else ""
    detail = {"detail": _interval} if is_first else {}
    best = max if measure.higher_is_better else min
    title, short = f"{measure.title}{sign}", f"{measure.short or measure.title}{sign}"
    return _Column(title, short, lambda row: row.values.get(measure.name), best, show, **detail)


def _measured(measure: Measure, value: float, test_size: int) -> str:
    return percent(value, test_size) if measure.is_share else f"{value:.3f}"


def _layouts(report: Report) -> list[tuple[tuple[_Column, ...], bool]]:
    """Sets of columns from the widest to the narrowest, each with whether to show the share of the parameters."""
    whole = columns(report)
    without_gzip = tuple(column for column in whole if column.title != "gzip")
    median = _LATENCY._replace(short="p50 ms", show=lambda row, _: milliseconds(row.latency_p50_ms))
    narrow = (*without_gzip[:-1], median)
    return [(whole, True), (without_gzip, True), (narrow, True), (narrow, False)]


def notes(report: Report) -> list[str]:
    """The notes below the table: resolution of the measure, runtime of the latencies, comparability."""
    scale = report.scale
    known = [row for row in report.rows if scale.known(row)]
    best = max if scale.measure.higher_is_better else min
    notes = [scale.resolution(best(known, key=scale.value))] if known else []
    runtimes: dict[str, list[str]] = {}
    for row in report.rows:
        if row.latency_p50_ms is not None:
            runtimes.setdefault(row.runtime or "an unnamed runtime", []).append(row.title)
    if len(runtimes) == 1:
        notes.append(f"Latency: one example on {next(iter(runtimes))}.")
    elif runtimes:
        texts = [f"{', '.join(names)} on {runtime}" for runtime, names in runtimes.items()]
        notes.append(f"Latency of one example: {'; '.join(texts)}.")
    if any(row.agreement is not None for row in report.rows):
        notes.append(f"Agreement: the share of test {scale.decided} with the same prediction as the Keras student.")
    return notes + _under_attack(report) + likeness(report.rows, report.conditions)


def _under_attack(report: Report) -> list[str]:
    """The accuracy of the attacked models under the last attack."""
    if not report.robustness:
        return []
    first = next(iter(report.robustness.values()))
    attack = list(first.accuracies)[-1]
    shown = [
        f"{row.title} {percent(report.robustness[row.id].accuracies[attack], first.num_examples)}%"
        for row in report.rows
        if row.id in report.robustness
    ]
    return [f"Accuracy under {attack} ({first.norm} epsilon {first.epsilon:.4g}), at most: {', '.join(shown)}."]


def _remarks(report: Report) -> list[str]:
    return [f"{row.title.capitalize()}: {row.note.rstrip('.')}." for row in report.rows if row.note]


def terminal_table(report: Report, width: int = 80) -> Table:
    """The rows as a table for a terminal of `width` columns.

    If the columns do not fit, the size after gzip is dropped first, then the 95th percentile of the latency, then the
    parameters as a share of the teacher's. The page and the JSON file contain all of them.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grids = [_texts(report, layout, details=details) for layout, details in _layouts(report)]
    heads, lines = next((grid for grid in grids if _width(*grid) <= width), grids[-1])
    result = Table(title=report.title, caption=" ".join([*notes(report), *_remarks(report)]))
    result.box, result.show_edge, result.pad_edge, result.padding = box.SIMPLE_HEAD, False, False, (0, 1, 0, 0)
    result.caption_justify = "left"
    result.add_column("Model", overflow="fold")
    for head in heads:
        result.add_column(head, justify="right", no_wrap=True)
    for title, cells in lines:
        shown = [Text(text, style="bold green" if best else "") for text, _, best in cells]
        for text, (_, detail, _) in zip(shown, cells, strict=True):
            text.append(f" {detail}" if detail else "", style="dim")
        result.add_row(Text(title), *shown)
    return result


def _texts(
    report: Report, layout: Sequence[_Column], *, details: bool
) -> tuple[list[str], list[tuple[str, list[_Cell]]]]:
    """The heads of the columns, and the title and cells of each row; `details` are for the first column only."""
    lines = []
    for row, cells in grid(report, layout):
        first = cells[0] if details else cells[0]._replace(detail="")
        lines.append((row.title, [first, *(cell._replace(detail="") for cell in cells[1:])]))
    return [column.short for column in layout], lines


def _width(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[_Cell]]]) -> int:
    """The width of a table with two spaces between columns."""
    sizes = [[len(f"{cell.text} {cell.detail}".rstrip()) for cell in cells] for _, cells in lines]
    widths = [max(len(head), *column) for head, column in zip(heads, zip(*sizes, strict=True), strict=True)]
    return max(len("Model"), *(len(title) for title, _ in lines)) + sum(widths) + 2 * len(widths)


def markdown_table(report: Report) -> str:
    """The rows as a Markdown table, with the best value of each column in bold and notes below."""
    lines = ["| Model | " + " | ".join(column.title for column in columns(report)) + " |"]
    lines.append("|---|" + "---:|" * len(columns(report)))
    for row, cells in grid(report):
        texts = [row.title.replace("|", r"\|")]
        for cell in cells:
            text = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{text} ({cell.detail})" if cell.detail else text)
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", " ".join([*notes(report), *_remarks(report)])]) + "\n"
