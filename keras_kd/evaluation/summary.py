"""The results of a run in sentences: size, accuracy and speed against the teacher, and the gain from distillation.

The sentences are built from the rows of the report alone. A difference that the test examples cannot tell from chance
is "within the noise".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_kd.evaluation.caveats import unlike
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow, shipped_student, title_of, with_id, with_role
from keras_kd.evaluation.scale import Scale, percent
from keras_kd.quantities import human_bytes


def summarize(rows: Sequence[ModelRow], scale: Scale, *, diverged: Mapping[str, float] | None = None) -> list[str]:
    """Summarizes rows in sentences: the smallest file against the teacher, the effects of distillation and export.

    Rows are found by role, `derived_from` and number of labels. Missing rows are skipped.

    Args:
        rows: the models.
        scale: compares them; models no better than guessing are listed first, and are not reported as a success.
        diverged: the last losses of diverged trainings, by row id; these are listed first too.
    """
    sentences, small = warnings_first(rows, scale, diverged or {}), shipped_student(rows)
    if facts := against_teacher(rows, scale):
        *phrases, last = (fact.phrase for fact in facts)
        joined = f"{', '.join(phrases)} and {last}" if phrases else last
        sentences.append(f"The {_format(small)} student {joined}.")
    sentences += [f"{fact.phrase}." for fact in gains(rows, scale)]
    source = small and with_id(rows, small.derived_from)
    if source is not None and small.role is Role.EXPORTED:
        sentences.append(_cost_of_export(small, source, scale))
    return sentences


def warnings_first(rows: Sequence[ModelRow], scale: Scale, diverged: Mapping[str, float]) -> list[str]:
    """Sentences on diverged trainings and on models no better than guessing."""
    ends = {id: "NaN" if loss is None else f"{loss:.3g}" for id, loss in diverged.items()}
    sentences = [
        f"The training of the {title_of(rows, id)} diverged: its loss ended at {end}." for id, end in ends.items()
    ]
    if at_chance := [row for row in rows if scale.at_chance(row)]:
        names = "; ".join(f"{row.title} {scale.shown(row)}" for row in at_chance)
        always = f"always predicting the most frequent class ({scale.show(scale.chance)})"
        sentences.append(
            f"No better than {always}, within the noise of {scale.test_size:,} test {scale.unit}: {names}."
        )
    return sentences


class _Fact(NamedTuple):
    phrase: str  # "is 61x smaller than the teacher"
    figure: str  # "61x smaller"
    caption: str  # "23.4 KiB instead of 1.4 MiB"


def _format(row: ModelRow) -> str:
    return row.format or "distilled"


def against_teacher(rows: Sequence[ModelRow], scale: Scale) -> list[_Fact]:
    teacher, small = with_role(rows, Role.TEACHER), shipped_student(rows)
    if teacher is None or small is None:
        return []
    facts = [_size(small, teacher), _quality(small, teacher, scale), _speed(small, teacher)]
    return [fact for fact in facts if fact]


def _size(row: ModelRow, teacher: ModelRow) -> _Fact:
    after, before, kind = row.num_bytes, teacher.num_bytes, ""
    if after and before:
        caption = f"file: {human_bytes(after)} instead of {human_bytes(before)}"
    else:
        after, before, kind = row.parameters, teacher.parameters, " (by parameters)"
        caption = f"parameters: {after:,} instead of {before:,}"
    figure = _ratio(before, after, "smaller", "larger")
    return _Fact(
        f"is {figure} than the teacher{kind}" if figure else f"is as large as the teacher{kind}",
        figure or "same size",
        caption,
    )


def _quality(row: ModelRow, teacher: ModelRow, scale: Scale) -> _Fact | None:
    if not scale.known(row, teacher):
        return None
    noun = scale.measure.noun
    caption = f"{noun}: {scale.shown(row)} instead of {scale.shown(teacher)}"
    if scale.at_chance(row, teacher):
        return _Fact("no better than guessing (nor is the teacher)", "no better than guessing", caption)
    if scale.is_same(row, teacher):
        same = "just as accurate" if noun == "accuracy" else f"equal in {noun}"
        return _Fact(same, f"same {noun}", f"{noun}: both {scale.shown(row)}")
    difference, proof = scale.difference(row, teacher), scale.proof(row, teacher)
    figure = f"{scale.sign(row, teacher)}{difference}"
    if noun != "accuracy":
        word = "better" if scale.is_better(row, teacher) else "worse"
        caption = caption if scale.measure.is_proportion else f"{noun}: {proof}"
        return _Fact(f"{difference} {word} in {noun} ({proof})", figure, caption)
    word = "more" if scale.is_better(row, teacher) else "less"
    return _Fact(f"{difference} {word} accurate ({proof})", figure, f"{caption}; {proof}")


def _speed(row: ModelRow, teacher: ModelRow) -> _Fact | None:
    """The speed of a row; compared with the teacher only if both ran on the same runtime."""
    if row.latency_p50_ms is None:
        return None
    suffix = f" ({row.runtime})" if row.runtime else ""
    if not (teacher.latency_p50_ms and row.latency_p50_ms) or teacher.runtime != row.runtime:
        time = f"{milliseconds(row.latency_p50_ms)} ms"
        return _Fact(f"takes {time} per example{suffix}", time, f"per example{suffix}")
    figure = _ratio(teacher.latency_p50_ms, row.latency_p50_ms, "faster", "slower") or "as fast"
    caption = f"{milliseconds(row.latency_p50_ms)} ms instead of {milliseconds(teacher.latency_p50_ms)} ms{suffix}"
    return _Fact(f"{figure}{suffix}", figure, caption)


def compared(rows: Sequence[ModelRow]) -> list[tuple[str, ModelRow, ModelRow]]:
    """The students that a report compares: the condition, the student alone, the distilled student."""
    pairs = []
    for row in rows:
        other = with_role(rows, Role.DISTILLED, row.labels)
        if row.role is Role.SCRATCH and other is not None:
            pairs.append(("all labels" if row.labels is None else f"{row.labels} labels", row, other))
    return pairs


def likeness(rows: Sequence[ModelRow], conditions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each comparison of students: they were trained alike, or which conditions differed.

    Args:
        rows: the models.
        conditions: the conditions of each training by row id: initial weights, examples, views, steps and so on.
    """
    sentences = []
    for condition, *pair in compared(rows):
        known = [conditions.get(row.id) for row in pair]
        if None in known:
            continue
        differences = unlike(*known)
        both = f"With {condition}, the student alone and the distilled student"
        same = f"{both} were trained with the same {', '.join(known[0])}."
        other = f"{both} differ in more than the teacher: "
        sentences.append(f"{other}{', '.join(differences)}." if differences else same)
    return sentences


def gains(rows: Sequence[ModelRow], scale: Scale) -> list[_Fact]:
    """The gain from distillation, with all labels and with few."""
    return [_gain(*pair, scale) for pair in compared(rows) if scale.known(*pair[1:])]


def _gain(condition: str, scratch: ModelRow, distilled: ModelRow, scale: Scale) -> _Fact:
    if scale.at_chance(scratch, distilled):
        values = " and ".join(scale.shown(row) for row in (scratch, distilled))
        phrase = f"With {condition}, neither student is better than guessing ({values}, alone and distilled)"
        return _Fact(phrase, "no gain", f"from distillation with {condition}: neither student beats guessing")
    if scale.is_same(scratch, distilled):
        both = f"both students reach {scale.shown(scratch)}"
        phrase = f"With {condition}, distillation changes nothing: {both}"
        return _Fact(phrase, "no gain", f"from distillation with {condition}: {both}")
    difference, proof = scale.difference(distilled, scratch), scale.proof(distilled, scratch)
    if scale.measure.is_share:
        change = f"{'adds' if scale.is_better(distilled, scratch) else 'loses'} {difference}"
        change += "" if scale.measure.noun == "accuracy" else f" of {scale.measure.noun}"
    else:
        verb = "improves" if scale.is_better(distilled, scratch) else "worsens"
        change = f"{verb} {scale.measure.noun} by {difference}"
    caption = f"from distillation with {condition}; {proof}"
    phrase = f"With {condition}, distillation {change} ({proof})"
    return _Fact(phrase, f"{scale.sign(distilled, scratch)}{difference}", caption)


def _cost_of_export(small: ModelRow, keras_student: ModelRow, scale: Scale) -> str:
    noun = scale.measure.noun
    if scale.at_chance(small, keras_student):
        change = f"has no {noun} to lose"
    elif not scale.known(small, keras_student) or scale.is_same(small, keras_student):
        change = f"costs no {noun}" if scale.measure.is_share else f"leaves {noun} as it is"
    elif scale.measure.is_share:
        verb = "gains" if scale.is_better(small, keras_student) else "costs"
        change = f"{verb} {scale.difference(small, keras_student)} ({scale.proof(small, keras_student)})"
    else:
        verb = "improves" if scale.is_better(small, keras_student) else "worsens"
        difference, proof = scale.difference(small, keras_student), scale.proof(small, keras_student)
        change = f"{verb} {noun} by {difference} ({proof})"
    agreement = ""
    if small.agreement is not None:
        share = percent(small.agreement, scale.test_size)
        same = f"predicts the same class as the Keras student on {share}% of the test {scale.decided}"
        if not scale.measure.is_proportion and scale.position_unit is None:  # independent labels
            same = f"makes the same decision as the Keras student on {share}% of the labels"
        agreement = f"; the file {same}"
    return f"Exporting to {_format(small)} {change}{agreement}."


def _ratio(before: float, after: float, less: str, more: str) -> str:
    """`"61x smaller"`, or `""` if the two are within 5% of each other."""
    ratio = before / after if after else math.inf
    if not 0 < ratio < math.inf or 1 / 1.05 < ratio < 1.05:
        return ""
    return f"{number(ratio)}x {less}" if ratio > 1 else f"{number(1 / ratio)}x {more}"


def number(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}"


def milliseconds(time: float | None) -> str:
    if time is None:
        return "–"
    return f"{time:.{3 if time < 1 else 2 if time < 10 else 1 if time < 100 else 0}f}"
