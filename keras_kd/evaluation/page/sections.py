"""The sections of a page that compare models: their sentences and the cells of their tables, as text."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_kd.evaluation import plots
from keras_kd.evaluation.comparison import ClassChange, ClassCounts, Disagreement
from keras_kd.evaluation.page import pictures
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.rows import title_of
from keras_kd.evaluation.scale import is_within_noise, percent
from keras_kd.evaluation.summary import milliseconds
from keras_kd.quantities import human_bytes


class ClassSection(NamedTuple):
    """The change per class: the titles of the models, the lines of the table, and sentences.

    A line is the name of a class and its cells: a number, and its change against the teacher or nothing.
    """

    titles: dict[str, str]
    lines: list[tuple[str, list[tuple[str, str]]]]
    notes: list[str]


class DisagreementSection(NamedTuple):
    """The disagreements of a file and the teacher: sentences, and one caption per picture."""

    lead: str
    notes: list[str]
    examples: list[dict[str, Any]]


class RobustnessSection(NamedTuple):
    """The accuracy under attack: sentences, the names of the attacks, and the title and cells of each line."""

    lead: str
    attacks: list[str]
    lines: list[tuple[str, list[str]]]
    notes: list[str]


class SynthesizedSection(NamedTuple):
    """Images made without data: sentences, and one caption per picture."""

    lead: str
    notes: list[str]
    examples: list[dict[str, Any]]


class ExitSection(NamedTuple):
    """The early exits: sentences, the titles of the columns, and the cells of each line."""

    lead: str
    columns: list[str]
    lines: list[list[str]]
    notes: list[str]


def fronts(report: Report) -> dict[str, str]:
    """The members of the Pareto front of each picture, as a sentence."""
    scale = report.scale

    def listed(points: list[plots.Point], show: Any) -> str:
        best = plots.front(points, scale.measure)
        members = "; ".join(f"{one.title} ({show(one.cost)}, {scale.show(one.quality)})" for one in best)
        return f"Pareto front, the cheapest first: {members}." if members else ""

    latency = listed(pictures.latency_points(report), lambda time: f"{milliseconds(time)} ms")
    runtime = pictures.compared_runtime(report.rows)
    others = [row.title for row in report.rows if row.latency_p50_ms and row.runtime != runtime]
    left_out = f" Left out, since timed on another runtime: {'; '.join(others)}." if others else ""
    return {
        "size_accuracy": listed(pictures.size_points(report), human_bytes),
        "latency_accuracy": latency + left_out,
    }


def classes(report: Report) -> ClassSection | None:
    """The accuracy of each class against the teacher's, of the worst classes; None if the report has none."""
    counted = report.classes
    changes = [] if counted is None else counted.changes()
    if not changes:
        return None
    titles = {name: title_of(report.rows, getattr(counted, name)) for name in ("teacher", "student", "file")}
    lines = [_class_line(one, report.class_names[one.index]) for one in changes[: plots.MAX_CLASSES]]
    return ClassSection(titles, lines, _class_notes(report, counted, changes))


def disagreements(report: Report) -> DisagreementSection | None:
    """The test images on which a file and the teacher disagree; None if the report has none."""
    found = report.disagreements
    if found is None:
        return None
    titles = {name: title_of(report.rows, getattr(found, name)) for name in ("teacher", "file")}
    whole = f"{report.test_size:,} test {report.unit}"
    if not found.count:
        return DisagreementSection(f"The file ({titles['file']}) predicts the teacher's class for all {whole}.", [], [])
    neither = found.count - found.teacher_right - found.file_right
    lead = (
        f"The teacher and the file ({titles['file']}) predict different classes for {found.count:,} of {whole}: "
        f"the teacher is right for {found.teacher_right:,}, the file for {found.file_right:,}, neither for {neither:,}."
    )
    shown = len(found.examples)
    some = f"The {shown} most confident of {found.count:,} are shown, the" if shown < found.count else "The"
    notes = ["Below each picture: the true class, then the two predicted classes with their probabilities."]
    notes.append(f"{some} most confident first: a disagreement is as confident as the less confident of the two.")
    if found.shown_range:
        low, high = found.shown_range
        notes.append(f"Black is {low:g} and white is {high:g} in the numbers that the models read.")
    return DisagreementSection(lead, notes, [_caption(one, report.class_names) for one in found.examples])


def robustness(report: Report) -> RobustnessSection | None:
    """The accuracy of each attacked model; None if the report has none."""
    measured = report.robustness
    if not measured:
        return None
    first = next(iter(measured.values()))
    restarts = f" and {first.restarts} random starts" if first.restarts > 1 else ""
    lead = (
        f"Accuracy in percent on {first.num_examples:,} test {report.unit}, as they are and perturbed against each "
        f"model by at most {first.epsilon:.4g} ({_NORMS[first.norm]}){restarts}."
    )
    attacks = list(first.accuracies)
    lines = [
        (row.title, [percent(measured[row.id].accuracies[name], first.num_examples) for name in attacks])
        for row in report.rows
        if row.id in measured
    ]
    notes = ["Each number is an upper bound: a stronger attack may find more errors."]
    if missing := [row.title for row in report.rows if row.id not in measured]:
        notes.append(f"Not attacked: {'; '.join(missing)}.")
    return RobustnessSection(lead, attacks, lines, notes)


_NORMS = {"linf": "each value", "l2": "the Euclidean norm of an example"}


def synthesized(report: Report) -> SynthesizedSection | None:
    """The images that a student learned from instead of data; None if the report has none."""
    made = report.synthesized
    if made is None:
        return None
    shown, low, high = len(made.images), *made.shown_range
    some = f"{shown} of the {made.count:,} images" if shown < made.count else f"The {shown} images"
    lead = f"{some} that were synthesized from the teacher alone, with the class that it predicts and its probability."
    captions = [
        {
            "image": one.image,
            "predicted": report.class_names[one.predicted],
            "percent": f"{100 * one.confidence:.0f}%",
        }
        for one in made.images
    ]
    return SynthesizedSection(
        lead, [f"Black is {low:g} and white is {high:g} in the numbers that the models read."], captions
    )


def exits(report: Report) -> ExitSection | None:
    """The accuracy and the operations of early exits by threshold; None if the student has kept none."""
    curve = report.exits
    if curve is None:
        return None
    lead = (
        "The distilled student with its exits: an example leaves at the first exit whose largest probability reaches "
        "the threshold, and needs none of the layers behind it. At a threshold of 1, none leaves early."
    )
    lines = [
        [
            f"{point.threshold:g}",
            percent(point.accuracy, report.test_size),
            f"{point.operations:.3f}",
            *(f"{100 * share:.1f}" for share in point.leaving.values()),
        ]
        for point in curve.points
    ]
    notes = [
        "Operations are the mean multiply-adds of an example as a fraction of those of the student without exits; "
        "exits that an example passes count too.",
        f"Choose the threshold on validation {report.unit}: the best one of this table is only the best for these.",
    ]
    return ExitSection(lead, [f"Leaving at {name.replace('_', ' ')}" for name in curve.outputs], lines, notes)


def _class_line(change: ClassChange, name: str) -> tuple[str, list[tuple[str, str]]]:
    def points(share: float) -> str:
        return f"{'+' if share > 0 else '−' if share < 0 else '±'}{100 * abs(share):.1f}"

    return name, [
        (f"{change.count:,}", ""),
        (f"{100 * change.teacher:.1f}", ""),
        (f"{100 * change.student:.1f}", points(change.student_change)),
        (f"{100 * change.file:.1f}", points(change.file_change)),
    ]


def _class_notes(report: Report, counted: ClassCounts, changes: list[ClassChange]) -> list[str]:
    notes, typical = [], int(np.median([change.count for change in changes]))
    if len(changes) > plots.MAX_CLASSES:
        notes.append(f"The {plots.MAX_CLASSES} worst of {len(changes):,} classes; report.json has all of them.")
    if empty := len(counted.counts) - len(changes):
        notes.append(f"Without test {report.unit}, and left out: {empty:,} of {len(counted.counts):,} classes.")
    real = sum(not is_within_noise(one.teacher, one.file, one.count) for one in changes)
    notes.append(
        f"In a class of {typical:,} test {report.unit}, one of them is {100 / max(typical, 1):.2g} points. "
        f"The change of the file exceeds the noise (95% interval) in {real:,} of {len(changes):,} classes."
    )
    return notes


def _caption(one: Disagreement, class_names: list[str]) -> dict[str, Any]:
    def verdict(is_right: bool) -> str:
        return "" if one.label < 0 else "right" if is_right else "wrong"

    return {
        "image": one.image,
        "index": one.index,
        "label": class_names[one.label] if one.label >= 0 else "unknown",
        "teacher": class_names[one.teacher],
        "teacher_percent": f"{100 * one.teacher_confidence:.0f}%",
        "teacher_verdict": verdict(one.teacher_is_right),
        "file": class_names[one.file],
        "file_percent": f"{100 * one.file_confidence:.0f}%",
        "file_verdict": verdict(one.file_is_right),
    }
