"""The report of one run, as JSON, an HTML page, or a table.

A report is plain data. The summary at the top is built from the rows alone; it says "within the noise" if the test
examples cannot tell two models apart.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_kd import files, tasks
from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.evaluation import caveats, plots
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.scale import Scale, percent
from keras_kd.evaluation.summary import (
    ModelRow,
    against_teacher,
    gains,
    likeness,
    milliseconds,
    number,
    summarize,
    title_of,
    with_role,
)
from keras_kd.quantities import human_bytes
from keras_kd.tasks import Measure

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """The results of a run.

    Attributes:
        title: the headline of the page.
        rows: the models, the teacher first.
        test_size: the number of test examples used for every measure.
        class_names: one name per class, or per output of another task.
        task: the name of a task in `keras_kd.tasks`, which determines the measures of the rows, the headline first.
        unit: the plural noun for the test examples, such as `"images"`.
        summary: sentences in plain language; None builds them from the rows.
        histories: the history of `fit` by row id: `{"teacher": {"loss": [...], "accuracy": [...]}}`.
        conditions: the conditions of the training by row id: `{"distilled": {"steps": 500, "views": 8}}`. If two
            compared students were not trained alike, the report lists the differences.
        confusion: counts `[true class][predicted class]`, or empty.
        confusion_of: the id of the row that `confusion` describes.
        soft_targets: `{"temperatures": [1, 4], "examples": [{"image": ..., "label": 3, "logits": [...]}]}`;
            an image is a nested list `[height][width]` or `[height][width][channels]`, a base64 PNG, or the numbers of
            an example that is not an image.
        settings: the recipe.
        environment: versions, machine, date.

    Raises:
        ConfigurationError: no rows, duplicate ids, no test examples, or a confusion matrix that does not fit the
            classes.
    """

    title: str
    rows: list[ModelRow]
    test_size: int
    class_names: list[str]
    task: str = "classification"
    unit: str = "examples"
    summary: list[str] | None = None
    histories: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    confusion_of: str = ""
    soft_targets: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("test_size", self.test_size, at_least=1)
        ids = [row.id for row in self.rows]
        if not ids or len(set(ids)) < len(ids):
            expected = "at least one row, and no id twice"
            raise ConfigurationError(explain("Invalid 'rows'.", received=ids, expected=expected))
        for measure in tasks.get(self.task).measures:
            for row in self.rows:
                if measure.is_share and row.values.get(measure.name) is not None:
                    check_number(measure.name, row.values[measure.name], at_least=0, at_most=1)
        if len(self.confusion):
            plots.check_confusion(self.confusion, self.class_names)
        if self.summary is None:
            guessing = tasks.get(self.task).loss_of_guessing(len(self.class_names))
            diverged = caveats.diverged(self.histories, guessing)
            summary = summarize(self.rows, self.scale, diverged=diverged)
            object.__setattr__(self, "summary", summary)

    @property
    def scale(self) -> Scale:
        """The scale for comparing rows: the headline measure of the task."""
        task = tasks.get(self.task)
        return Scale(task.headline, self.test_size, self.unit, self.chance, task.position_unit)

    @property
    def chance(self) -> float | None:
        """The accuracy of always predicting the most frequent class; None without a confusion matrix."""
        return caveats.chance_level(self.confusion) if len(self.confusion) else None

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types: arrays become lists, NaN and infinity become null."""
        return {"schema_version": SCHEMA_VERSION} | plain(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Restores a report from `to_dict`.

        Raises:
            ConfigurationError: another schema version, or missing or unknown keys.
        """
        content = dict(data)
        version = content.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            fix = "Read it with the release of keras_kd that wrote it, or run the recipe again."
            received, expected = f"schema_version {version!r}", f"schema_version {SCHEMA_VERSION}"
            raise ConfigurationError(
                explain("The report has another format.", received=received, expected=expected, fix=fix)
            )
        try:
            rows = [ModelRow(**row) for row in content.pop("rows")]
            return cls(rows=rows, **content)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(explain("A key of the report is missing or unknown.", received=error)) from error


def highlights(report: Report) -> list[tuple[str, str]]:
    """The facts of the summary as figures with captions, for the top of the page."""
    facts = against_teacher(report.rows, report.scale) + gains(report.rows, report.scale)
    return [(fact.figure, fact.caption) for fact in facts]


def table(report: Report, width: int = 80) -> Table:
    """The rows as a table for a terminal of `width` columns.

    If the columns do not fit, the size after gzip is dropped first, then the 95th percentile of the latency, then the
    parameters as a share of the teacher's. The page and the JSON file contain all of them.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grids = [_texts(report, columns, details=details) for columns, details in _layouts(report)]
    heads, lines = next((grid for grid in grids if _width(*grid) <= width), grids[-1])
    result = Table(title=report.title, caption=" ".join([*_notes(report), *_remarks(report)]))
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
    report: Report, columns: Sequence[_Column], *, details: bool
) -> tuple[list[str], list[tuple[str, list[_Cell]]]]:
    """The heads of `columns`, and the title and cells of each row; `details` are for the first column only."""
    lines = []
    for row, cells in _grid(report, columns):
        first = cells[0] if details else cells[0]._replace(detail="")
        lines.append((row.title, [first, *(cell._replace(detail="") for cell in cells[1:])]))
    return [column.short for column in columns], lines


def _width(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[_Cell]]]) -> int:
    """The width of a table with two spaces between columns."""
    sizes = [[len(f"{cell.text} {cell.detail}".rstrip()) for cell in cells] for _, cells in lines]
    widths = [max(len(head), *column) for head, column in zip(heads, zip(*sizes, strict=True), strict=True)]
    return max(len("Model"), *(len(title) for title, _ in lines)) + sum(widths) + 2 * len(widths)


def markdown_table(report: Report) -> str:
    """The rows as a Markdown table, with the best value of each column in bold and notes below."""
    lines = ["| Model | " + " | ".join(column.title for column in _columns(report)) + " |"]
    lines.append("|---|" + "---:|" * len(_columns(report)))
    for row, cells in _grid(report):
        texts = [row.title.replace("|", r"\|")]
        for cell in cells:
            text = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{text} ({cell.detail})" if cell.detail else text)
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", " ".join([*_notes(report), *_remarks(report)])]) + "\n"


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the report as JSON, atomically."""
    files.write(Path(path), json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_html(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the report as a single HTML page that needs no network, atomically."""
    files.write(Path(path), render_html(report))


def render_html(report: Report) -> str:
    """The HTML page; all text from the report is escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    pictures, missing = _pictures(report)
    return environment.from_string(source).render(
        report=report,
        confusion_title=title_of(report.rows, report.confusion_of),
        highlights=highlights(report),
        columns=_columns(report),
        grid=_grid(report),
        notes=_notes(report),
        pictures=pictures,
        missing=missing,
        details={"Settings": _flat(report.settings), "Environment": _flat(report.environment)},
    )


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


def _grid(report: Report, columns: Sequence[_Column] | None = None) -> list[tuple[ModelRow, list[_Cell]]]:
    """Each row with its cells, for all columns by default; the best value is marked unless most rows share it."""
    columns, best = columns or _columns(report), []
    for column in columns:
        known = [value for row in report.rows if (value := column.value(row)) is not None]
        top = column.best(known, default=None)
        best.append(top if 2 * known.count(top) <= len(known) else None)
    return [
        (row, [_cell(report, row, column, top) for column, top in zip(columns, best, strict=True)])
        for row in report.rows
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
    ends = report.scale.interval(row)
    return "–".join(percent(end, report.test_size) for end in ends)


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


def _columns(report: Report) -> tuple[_Column, ...]:
    """Sizes, the measures of the task, agreement if the task has it, and latency."""
    task = tasks.get(report.task)
    measures = tuple(_measure_column(measure, is_first=measure is task.headline) for measure in task.measures)
    has_agreement = task.has_classes or any(row.agreement is not None for row in report.rows)
    return (*_SIZES, *measures, *((_AGREEMENT,) if has_agreement else ()), _LATENCY)


def _measure_column(measure: Measure, *, is_first: bool) -> _Column:
    def show(row: ModelRow, test_size: int) -> str:
        value = row.values[measure.name]
        return percent(value, test_size) if measure.is_share else f"{value:.3f}"

    sign = " %" if measure.is_share else ""
    detail = {"detail": _interval} if is_first and measure.is_proportion else {}
    best = max if measure.higher_is_better else min
    title, short = f"{measure.title}{sign}", f"{measure.short or measure.title}{sign}"
    return _Column(title, short, lambda row: row.values.get(measure.name), best, show, **detail)


def _layouts(report: Report) -> list[tuple[tuple[_Column, ...], bool]]:
    """Sets of columns from the widest to the narrowest, each with whether to show the share of the parameters."""
    whole = _columns(report)
    without_gzip = tuple(column for column in whole if column.title != "gzip")
    median = _LATENCY._replace(short="p50 ms", show=lambda row, _: milliseconds(row.latency_p50_ms))
    narrow = (*without_gzip[:-1], median)
    return [(whole, True), (without_gzip, True), (narrow, True), (narrow, False)]


def _notes(report: Report) -> list[str]:
    """The notes below the table: resolution of the measure, runtime of the latencies, comparability."""
    scale = report.scale
    known = [row for row in report.rows if scale.known(row)]
    notes = [scale.resolution(max(known, key=scale.value))] if known else []
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
        notes.append("Agreement: same prediction as the Keras student.")
    return notes + likeness(report.rows, report.conditions)


def _remarks(report: Report) -> list[str]:
    return [f"{row.title.capitalize()}: {row.note.rstrip('.')}." for row in report.rows if row.note]


def _pictures(report: Report) -> tuple[dict[str, str], dict[str, str]]:
    """The SVG of each section that has data; and for each picture that failed, the error."""
    from markupsafe import Markup

    pictures, missing = {}, {}
    for name, draw in _drawn(report).items():
        try:
            pictures[name] = Markup(draw())
        except Exception as error:  # a failure costs only the picture
            missing[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return pictures, missing


def _drawn(report: Report) -> dict[str, Callable[[], str]]:
    """The drawing function of each section that has data."""
    draws = {}
    if any(row.num_bytes for row in report.rows):
        scale = report.scale
        known = [row for row in report.rows if scale.known(row)]
        points = [plots.Point(row.id, row.title, row.num_bytes, scale.value(row)) for row in known]
        intervals = {row.id: scale.interval(row) for row in known}
        draws["size_accuracy"] = partial(plots.size_accuracy, points, intervals=intervals, measure=scale.measure)
    if report.histories:
        titled = {title_of(report.rows, id): history for id, history in report.histories.items()}
        draws["training_curves"] = partial(plots.training_curves, titled, curve=tasks.get(report.task).curve)
    if report.soft_targets.get("examples"):
        draws["soft_targets"] = partial(_soft_targets, report)
    if len(report.confusion):
        draws["confusion"] = partial(plots.confusion_matrix, report.confusion, report.class_names)
    return draws


def _soft_targets(report: Report) -> str:
    examples, temperatures = report.soft_targets["examples"], report.soft_targets["temperatures"]
    images, labels, logits = ([example[key] for example in examples] for key in ("image", "label", "logits"))
    return plots.soft_targets(images, logits, temperatures, report.class_names, labels=labels)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `("student.depth", "2")` pairs."""
    pairs = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            pairs.append((f"{prefix}{key}", text))
    return pairs


def plain(value: Any) -> Any:
    """The value in JSON types; any other type (a path, a date) becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
