"""The results of a run in sentences: size, accuracy and speed against the teacher, and the gain from distillation.

Built from the rows of the report alone. A difference that the test examples cannot tell from chance is "within the
noise".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_kd.errors import check_number
from keras_kd.evaluation.caveats import is_at_chance, unlike
from keras_kd.evaluation.roles import Role
from keras_kd.quantities import human_bytes
from keras_kd.teachers.calibration import wilson_interval


@dataclass(frozen=True)
class ModelRow:
    """One model of the report.

    Attributes:
        id: names the model; no other row has it.
        title: what the reader sees, such as `"distilled, int8 TFLite"`; nothing depends on it.
        role: what the model is for; the headline and the comparisons follow it.
        parameters: Number of weights.
        accuracy: Share of the whole test split that is right, 0 to 1.
        macro_f1: F1 averaged over the classes, 0 to 1.
        num_bytes: Size of the TFLite file.
        gzip_bytes: Size of that file after gzip.
        agreement: Share of the test split on which it predicts the same class as the model that it was made from, 0
            to 1.
        latency_p50_ms: Median time of one example.
        latency_p95_ms: Time that 95 of 100 examples stay under.
        runtime: What ran it, such as `"LiteRT, 1 thread"`.
        note: A remark for the reader.
        derived_from: The id of the model that it was made from; None for one that was trained from its own start.
        labels: Number of labeled examples that it was trained with; None for all of them.
        format: Of an exported file, such as `"int8"`.
    """

    id: str
    title: str
    role: Role
    parameters: int
    accuracy: float
    macro_f1: float
    num_bytes: int | None = None
    gzip_bytes: int | None = None
    agreement: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    runtime: str | None = None
    note: str = ""
    derived_from: str | None = None
    labels: int | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", Role(self.role))
        shares = {"accuracy", "macro_f1", "agreement"}
        for name in (*shares, "parameters", "num_bytes", "gzip_bytes", "latency_p50_ms", "latency_p95_ms"):
            value = getattr(self, name)
            if value is not None or name in ("parameters", "accuracy", "macro_f1"):
                check_number(name, value, at_least=0, at_most=1 if name in shares else math.inf)


def is_within_noise(first: float, second: float, test_size: int) -> bool:
    """Whether the 95% interval of the difference of two accuracies holds zero.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions" (1998).
    That both models saw the same examples is left out, so it rather calls too much noise than too little.

    >>> is_within_noise(0.972, 0.969, 360), is_within_noise(0.90, 0.80, 360)
    (True, False)
    """
    low, high = sorted((first, second))
    below, above = high - wilson_interval(high, test_size)[0], wilson_interval(low, test_size)[1] - low
    return high - low <= math.hypot(below, above)


def summarize(
    rows: Sequence[ModelRow],
    test_size: int,
    *,
    chance: float | None = None,
    diverged: Mapping[str, float] | None = None,
) -> list[str]:
    """Summarizes rows in sentences: the smallest file against the teacher, the effects of distillation and export.

    Rows are found by role, by what they are derived from, and by the number of labels. What has no row has no sentence.

    Args:
        rows: the models.
        test_size: number of test examples behind every accuracy.
        chance: the accuracy of always naming the most frequent class, where it is known; models that are no better
            come first, and are not praised.
        diverged: the last losses of trainings that diverged, by row id; they come first too.
    """
    sentences, small = warnings_first(rows, test_size, chance, diverged or {}), shipped_student(rows)
    if facts := against_teacher(rows, test_size, chance):
        *phrases, last = (fact.phrase for fact in facts)
        sentences.append(f"The {_format(small)} student {', '.join(phrases)} and {last}.")
    sentences += [f"{fact.phrase}." for fact in gains(rows, test_size, chance)]
    source = small and with_id(rows, small.derived_from)
    if source is not None and small.role is Role.EXPORTED:
        sentences.append(_cost_of_export(small, source, test_size, chance))
    return sentences


def warnings_first(
    rows: Sequence[ModelRow], test_size: int, chance: float | None, diverged: Mapping[str, float]
) -> list[str]:
    """Trainings that diverged, and models that are no better than guessing."""
    ends = {id: "NaN" if loss is None else f"{loss:.3g}" for id, loss in diverged.items()}
    sentences = [
        f"The training of the {title_of(rows, id)} diverged: its loss ended at {end}." for id, end in ends.items()
    ]
    if at_chance := [row for row in rows if is_at_chance(row.accuracy, chance, test_size)]:
        names = "; ".join(f"{row.title} {percent(row.accuracy, test_size)}%" for row in at_chance)
        always = f"always naming the most frequent class ({percent(chance, test_size)}%)"
        sentences.append(f"No better than {always}, as far as {test_size:,} test examples can tell: {names}.")
    return sentences


class _Fact(NamedTuple):
    phrase: str  # "is 61x smaller than the teacher"
    figure: str  # "61x smaller"
    caption: str  # "23.4 KiB instead of 1.4 MiB"


def with_id(rows: Sequence[ModelRow], id: str | None) -> ModelRow | None:
    return next((row for row in rows if row.id == id), None)


def with_role(rows: Sequence[ModelRow], role: Role, labels: int | None = None) -> ModelRow | None:
    """The first row of a role that was trained with so many labels."""
    return next((row for row in rows if row.role is role and row.labels == labels), None)


def title_of(rows: Sequence[ModelRow], id: str) -> str:
    """The title of a row; the id itself without one."""
    row = with_id(rows, id)
    return id if row is None else row.title


def shipped_student(rows: Sequence[ModelRow]) -> ModelRow | None:
    """The student for the phone: the smallest file made from the distilled student, else that student."""
    student = with_role(rows, Role.DISTILLED)
    files = [row for row in rows if row.role is Role.EXPORTED and row.num_bytes and _root(rows, row) is student]
    return min(files, key=lambda row: row.num_bytes, default=student)


def _root(rows: Sequence[ModelRow], row: ModelRow) -> ModelRow:
    """The first model of those that a row is derived from, one after the other."""
    source = with_id(rows, row.derived_from)
    return row if source is None else _root(rows, source)


def _format(row: ModelRow) -> str:
    return row.format or "distilled"


def against_teacher(rows: Sequence[ModelRow], test_size: int, chance: float | None = None) -> list[_Fact]:
    teacher, small = with_role(rows, Role.TEACHER), shipped_student(rows)
    if teacher is None or small is None:
        return []
    facts = [_size(small, teacher), _accuracy(small, teacher, test_size, chance), _speed(small, teacher)]
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


def _accuracy(row: ModelRow, teacher: ModelRow, test_size: int, chance: float | None) -> _Fact:
    points, proof = _difference(row, teacher, test_size)
    caption = f"accuracy: {percent(row.accuracy, test_size)}% instead of {percent(teacher.accuracy, test_size)}%"
    if _both_at_chance(row, teacher, test_size, chance):
        return _Fact("no better than guessing (nor is the teacher)", "no better than guessing", caption)
    if not proof:
        return _Fact("just as accurate", "same accuracy", f"accuracy: both {percent(row.accuracy, test_size)}%")
    word = "more" if row.accuracy > teacher.accuracy else "less"
    return _Fact(f"{points} {word} accurate ({proof})", f"{_sign(row, teacher)}{points}", f"{caption}; {proof}")


def _speed(row: ModelRow, teacher: ModelRow) -> _Fact | None:
    """Times are compared on the same runtime only."""
    if row.latency_p50_ms is None:
        return None
    suffix = f" ({row.runtime})" if row.runtime else ""
    if not (teacher.latency_p50_ms and row.latency_p50_ms) or teacher.runtime != row.runtime:
        time = f"{milliseconds(row.latency_p50_ms)} ms"
        return _Fact(f"takes {time} per example{suffix}", time, f"per example{suffix}")
    figure = _ratio(teacher.latency_p50_ms, row.latency_p50_ms, "faster", "slower") or "as fast"
    caption = f"{milliseconds(row.latency_p50_ms)} ms instead of {milliseconds(teacher.latency_p50_ms)} ms{suffix}"
    return _Fact(f"{figure}{suffix}", figure, caption)


def _both_at_chance(row: ModelRow, other: ModelRow, test_size: int, chance: float | None) -> bool:
    return all(is_at_chance(model.accuracy, chance, test_size) for model in (row, other))


def compared(rows: Sequence[ModelRow]) -> list[tuple[str, ModelRow, ModelRow]]:
    """The students that a report compares: the condition, the one alone, the one by distillation."""
    pairs = []
    for row in rows:
        other = with_role(rows, Role.DISTILLED, row.labels)
        if row.role is Role.SCRATCH and other is not None:
            pairs.append(("all labels" if row.labels is None else f"{row.labels} labels", row, other))
    return pairs


def likeness(rows: Sequence[ModelRow], conditions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each comparison of students: that they were trained alike, or what differed.

    Args:
        rows: the models.
        conditions: by row id, what the model was trained with: first weights, images, views, steps and so on.
    """
    sentences = []
    for condition, *pair in compared(rows):
        known = [conditions.get(row.id) for row in pair]
        if None in known:
            continue
        differences = unlike(*known)
        same = f"With {condition}, the students alone and distilled had the same {', '.join(known[0])}."
        other = f"With {condition}, the students alone and distilled differ in more than the teacher: "
        sentences.append(f"{other}{', '.join(differences)}." if differences else same)
    return sentences


def gains(rows: Sequence[ModelRow], test_size: int, chance: float | None = None) -> list[_Fact]:
    """What distillation did, with all labels and with few."""
    return [_gain(*pair, test_size, chance) for pair in compared(rows)]


def _gain(condition: str, scratch: ModelRow, distilled: ModelRow, test_size: int, chance: float | None) -> _Fact:
    points, proof = _difference(distilled, scratch, test_size)
    if _both_at_chance(scratch, distilled, test_size, chance):
        values = " and ".join(f"{percent(row.accuracy, test_size)}%" for row in (scratch, distilled))
        phrase = f"With {condition}, neither student is better than guessing ({values}, alone and distilled)"
        return _Fact(phrase, "no gain", f"from distillation with {condition}: neither student beats guessing")
    if not proof:
        both = f"both students reach {percent(scratch.accuracy, test_size)}%"
        phrase = f"With {condition}, distillation changes nothing: {both}"
        return _Fact(phrase, "no gain", f"from distillation with {condition}: {both}")
    verb = "adds" if distilled.accuracy > scratch.accuracy else "loses"
    caption = f"from distillation with {condition}; {proof}"
    phrase = f"With {condition}, distillation {verb} {points} ({proof})"
    return _Fact(phrase, f"{_sign(distilled, scratch)}{points}", caption)


def _cost_of_export(small: ModelRow, keras_student: ModelRow, test_size: int, chance: float | None) -> str:
    points, proof = _difference(small, keras_student, test_size)
    verb = "gains" if small.accuracy > keras_student.accuracy else "costs"
    change = f"{verb} {points} ({proof})" if proof else "costs no accuracy"
    if _both_at_chance(small, keras_student, test_size, chance):
        change = "has no accuracy to lose"
    agreement = ""
    if small.agreement is not None:
        share = percent(small.agreement, test_size)
        agreement = f"; it predicts the same class as the Keras student on {share}% of the test examples"
    return f"Exporting to {_format(small)} {change}{agreement}."


def _difference(row: ModelRow, other: ModelRow, test_size: int) -> tuple[str, str]:
    """`("0.3 points", "1 of 360 test examples, within the noise")`; no proof where not one example differs."""
    difference = abs(row.accuracy - other.accuracy)
    images = round(difference * test_size)
    noise = ", within the noise" if is_within_noise(row.accuracy, other.accuracy, test_size) else ""
    return (
        f"{percent(difference, test_size)} points",
        f"{images} of {test_size:,} test examples{noise}" * bool(images),
    )


def _sign(row: ModelRow, other: ModelRow) -> str:
    return "+" if row.accuracy > other.accuracy else "−"


def _ratio(before: float, after: float, less: str, more: str) -> str:
    """`"61x smaller"`, or nothing where the two are within 5% of each other."""
    ratio = before / after if after else math.inf
    if not 0 < ratio < math.inf or 1 / 1.05 < ratio < 1.05:
        return ""
    return f"{number(ratio)}x {less}" if ratio > 1 else f"{number(1 / ratio)}x {more}"


def number(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}"


def percent(share: float, test_size: int) -> str:
    """Percent, in as many digits as the test examples can carry."""
    return f"{100 * share:.{1 if test_size <= 1000 else 2}f}"


def milliseconds(time: float | None) -> str:
    if time is None:
        return "–"
    return f"{time:.{3 if time < 1 else 2 if time < 10 else 1 if time < 100 else 0}f}"
