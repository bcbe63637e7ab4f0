"""The report as a single HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from keras_kd import files, tasks
from keras_kd.evaluation import table
from keras_kd.evaluation.page import pictures, sections
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.rows import title_of
from keras_kd.evaluation.summary import against_teacher, gains


def write_html(report: Report, path: str | os.PathLike[str], *, graphs: Mapping[str, str] | None = None) -> None:
    """Writes the report as a single HTML page that needs no network, atomically. Arguments: see `render_html`."""
    files.write(Path(path), render_html(report, graphs=graphs))


def render_html(report: Report, *, graphs: Mapping[str, str] | None = None) -> str:
    """The HTML page; all text from the report is escaped.

    Args:
        report: what to show.
        graphs: pictures of files in SVG, by the file's name, which are not escaped.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    drawn, missing = pictures.draw(report)
    return environment.from_string(source).render(
        report=report,
        has_classes=tasks.get(report.task).has_classes,
        has_intervals=any(report.scale.known(row) and report.scale.has_interval(row) for row in report.rows),
        confusion_title=title_of(report.rows, report.confusion_of),
        highlights=highlights(report),
        columns=table.columns(report),
        grid=table.grid(report),
        notes=table.notes(report),
        pictures=drawn,
        missing=missing,
        runtime=pictures.compared_runtime(report.rows),
        fronts=sections.fronts(report),
        classes=sections.classes(report),
        disagreements=sections.disagreements(report),
        robustness=sections.robustness(report),
        synthesized=sections.synthesized(report),
        exits=sections.exits(report),
        graphs=graphs or {},
        details={"Settings": _flat(report.settings), "Environment": _flat(report.environment)},
    )


def highlights(report: Report) -> list[tuple[str, str]]:
    """The facts of the summary as figures with captions, for the top of the page."""
    facts = against_teacher(report.rows, report.scale) + gains(report.rows, report.scale)
    return [(fact.figure, fact.caption) for fact in facts]


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
