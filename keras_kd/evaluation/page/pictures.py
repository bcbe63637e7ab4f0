"""The pictures of a page: which are drawn, from which fields of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from keras_kd import tasks
from keras_kd.evaluation import plots
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.rows import ModelRow, title_of


def draw(report: Report) -> tuple[dict[str, str], dict[str, str]]:
    """The SVG of each section that has data; and for each picture that failed, the error."""
    from markupsafe import Markup

    pictures, missing = {}, {}
    for name, picture in _functions(report).items():
        try:
            pictures[name] = Markup(picture())
        except Exception as error:  # a failure costs only the picture
            missing[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return pictures, missing


def size_points(report: Report) -> list[plots.Point]:
    """The models with a file and a value of the headline measure, by the size of the file in bytes."""
    return [_point(report, row, row.num_bytes) for row in report.rows if report.scale.known(row)]


def latency_points(report: Report) -> list[plots.Point]:
    """Those by median latency in milliseconds, on the runtime that most were timed on: others are not comparable."""
    runtime = compared_runtime(report.rows)
    rows = [row for row in report.rows if report.scale.known(row) and row.runtime == runtime]
    return [_point(report, row, row.latency_p50_ms) for row in rows]


def compared_runtime(rows: Sequence[ModelRow]) -> str | None:
    """The runtime that most of the timed models ran on; of equally frequent ones, the first."""
    timed = Counter(row.runtime for row in rows if row.latency_p50_ms)
    return timed.most_common(1)[0][0] if timed else None


def _point(report: Report, row: ModelRow, cost: float | None) -> plots.Point:
    return plots.Point(row.id, row.title, cost, report.scale.value(row))


def _functions(report: Report) -> dict[str, Callable[[], str]]:
    """The drawing function of each section that has data."""
    return _trade_offs(report) | _trainings(report) | _classes(report)


def _trade_offs(report: Report) -> dict[str, Callable[[], str]]:
    scale = report.scale
    intervals = {row.id: scale.interval(row) for row in report.rows if scale.known(row)}
    settings = {"intervals": intervals, "measure": scale.measure}
    size, latency = size_points(report), latency_points(report)
    draws = {}
    if plots.drawable(size):
        draws["size_accuracy"] = partial(plots.size_accuracy, size, **settings)
    if plots.drawable(latency):
        draws["latency_accuracy"] = partial(plots.latency_accuracy, latency, **settings)
    return draws


def _trainings(report: Report) -> dict[str, Callable[[], str]]:
    draws = {}
    if report.histories:
        titled = {title_of(report.rows, id): history for id, history in report.histories.items()}
        draws["training_curves"] = partial(plots.training_curves, titled, curve=tasks.get(report.task).curve)
    if report.soft_targets.get("examples"):
        draws["soft_targets"] = partial(_soft_targets, report)
    return draws


def _classes(report: Report) -> dict[str, Callable[[], str]]:
    draws = {}
    if len(report.confusion):
        draws["confusion"] = partial(plots.confusion_matrix, report.confusion, report.class_names)
    if report.classes is not None and (changes := report.classes.changes()):
        titles = {name: title_of(report.rows, getattr(report.classes, name)) for name in ("file", "student")}
        draws["classes"] = partial(plots.class_changes, changes, report.class_names, **titles)
    if report.reliability:
        titled = {title_of(report.rows, id): bins for id, bins in report.reliability.items()}
        draws["reliability"] = partial(plots.reliability_curves, titled)
    if report.exits is not None:
        draws["exits"] = partial(plots.exit_curve, report.exits)
    return draws


def _soft_targets(report: Report) -> str:
    examples, temperatures = report.soft_targets["examples"], report.soft_targets["temperatures"]
    images, labels, logits = ([example[key] for example in examples] for key in ("image", "label", "logits"))
    return plots.soft_targets(images, logits, temperatures, report.class_names, labels=labels)
