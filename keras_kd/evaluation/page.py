"""The report as a single HTML page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from keras_kd import files, tasks
from keras_kd.evaluation import plots, table
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.rows import title_of
from keras_kd.evaluation.summary import against_teacher, gains


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
        has_classes=tasks.get(report.task).has_classes,
        has_intervals=any(report.scale.known(row) and report.scale.has_interval(row) for row in report.rows),
        confusion_title=title_of(report.rows, report.confusion_of),
        highlights=highlights(report),
        columns=table.columns(report),
        grid=table.grid(report),
        notes=table.notes(report),
        pictures=pictures,
        missing=missing,
        details={"Settings": _flat(report.settings), "Environment": _flat(report.environment)},
    )


def highlights(report: Report) -> list[tuple[str, str]]:
    """The facts of the summary as figures with captions, for the top of the page."""
    facts = against_teacher(report.rows, report.scale) + gains(report.rows, report.scale)
    return [(fact.figure, fact.caption) for fact in facts]


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
