import dataclasses
import io
import json
import math
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import plots
from keras_kd.evaluation.comparison import ClassCounts, Disagreement, Disagreements
from keras_kd.evaluation.page import highlights, render_html, write_html
from keras_kd.evaluation.plots import as_png
from keras_kd.evaluation.report import Report, write_json
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.scale import Scale, is_within_noise
from keras_kd.evaluation.summary import summarize as summarize_rows
from keras_kd.evaluation.table import markdown_table, terminal_table
from keras_kd.tasks import Classification
from keras_kd.teachers.calibration import ReliabilityBins, wilson_interval

RUNTIME = "LiteRT, 1 thread"


def model(id, title, role, parameters, accuracy, macro_f1, *rest, **more):
    """A row of a classification report."""
    return ModelRow(id, title, role, parameters, {"accuracy": accuracy, "macro_f1": macro_f1}, *rest, **more)


def replace(row, **changes):
    measures = {name: changes.pop(name) for name in ("accuracy", "macro_f1") if name in changes}
    return dataclasses.replace(row, values=row.values | measures, **changes)


def summarize(rows, test_size):
    return summarize_rows(rows, Scale(Classification().headline, test_size))


TEACHER = model("t", "teacher", Role.TEACHER, 430_000, 352 / 360, 0.977, 1_000_000, 900_000, None, 0.6, 0.7, RUNTIME)
SCRATCH = model("s", "student from scratch", Role.SCRATCH, 7_000, 342 / 360, 0.95)
DISTILLED = model("d", "student distilled", Role.DISTILLED, 7_000, 347 / 360, 0.963)
FLOAT = model(
    "float",
    "distilled, float32 TFLite",
    Role.EXPORTED,
    7_000,
    347 / 360,
    0.963,
    32_000,
    30_000,
    1.0,
    0.08,
    0.09,
    RUNTIME,
    derived_from="d",
    format="float32",
)
INT8 = replace(
    FLOAT,
    id="int8",
    title="distilled, int8 TFLite",
    format="int8",
    accuracy=346 / 360,
    macro_f1=0.961,
    num_bytes=16_000,
    gzip_bytes=9_000,
    agreement=358 / 360,
    latency_p50_ms=0.05,
    latency_p95_ms=0.06,
)
FEW_SCRATCH = model("fs", "scratch, 100 labels", Role.SCRATCH, 7_000, 300 / 360, 0.83, labels=100)
FEW_DISTILLED = model(
    "fd",
    "distilled, 100 labels",
    Role.DISTILLED,
    7_000,
    330 / 360,
    0.91,
    labels=100,
    note="with <unlabeled> images",
)
ROWS = [TEACHER, SCRATCH, DISTILLED, FLOAT, INT8, FEW_SCRATCH, FEW_DISTILLED]


CLASSES = ClassCounts(
    "t", "d", "int8", [100, 200, 60], {"t": [100, 197, 55], "d": [98, 190, 59], "int8": [97, 190, 59]}
)
BINS = ReliabilityBins((0.4, 0.9), (0.5, 0.95), (40, 320))


def _png(seed, channels=1):
    return as_png(np.random.default_rng(seed).integers(0, 256, (8, 8, channels), np.uint8))


DISAGREEMENTS = Disagreements(
    "t",
    "int8",
    count=9,
    teacher_right=6,
    file_right=2,
    examples=[
        Disagreement(17, 1, 1, 0, 0.991, 0.75, _png(0)),
        Disagreement(4, 2, 1, 2, 0.6, 0.5, _png(1, 3)),
        Disagreement(5, -1, 0, 2, 0.5, 0.4, _png(2)),
    ],
    shown_range=[-1.0, 1.0],
)


def _report(**changes):
    settings = {
        "title": "Digits & <b>letters</b>",
        "rows": ROWS,
        "test_size": 360,
        "class_names": ["cat", "<script>", '"dog"'],
        "histories": {"teacher <1>": {"loss": [1.0, 0.5], "accuracy": [0.5, 0.9], "val_accuracy": [0.4, 0.8]}},
        "confusion": [[5, 1, 0], [0, 4, 2], [0, 0, 6]],
        "confusion_of": "d",
        "soft_targets": {
            "temperatures": [1, 4],
            "examples": [{"image": [[0.0, 1.0], [1.0, 0.0]], "label": 1, "logits": [1.0, 2.0, 0.0]}],
        },
        "settings": {"student": {"depth": 2, "name": "<i>small</i>"}, "temperature": [1, 4]},
        "environment": {"keras": "3.15.1", "date": "2026-01-02"},
    }
    compared = {"classes": CLASSES, "reliability": {"t": BINS, "int8": BINS}, "disagreements": DISAGREEMENTS}
    return Report(**settings | ({} if "rows" in changes else compared) | changes)


# Numbers of the rows


@settings(deadline=None)
@given(st.integers(1, 3000), st.data())
def test_wilson_interval_is_that_of_scipy(test_size, data):
    correct = data.draw(st.integers(0, test_size))
    expected = binomtest(correct, test_size).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(correct / test_size, test_size), expected, atol=1e-12)


@settings(deadline=None)
@given(st.integers(5, 2000), st.data())
def test_noise_is_newcombes_interval_around_zero(test_size, data):
    few, many = sorted(data.draw(st.integers(0, test_size)) for _ in range(2))
    upper, lower = (binomtest(count, test_size).proportion_ci(method="wilson") for count in (many, few))
    p_many, p_few = many / test_size, few / test_size
    lowest = p_many - p_few - math.sqrt((p_many - upper.low) ** 2 + (lower.high - p_few) ** 2)
    assume(abs(lowest) > 1e-9)
    assert is_within_noise(p_many, p_few, test_size) == is_within_noise(p_few, p_many, test_size) == (lowest <= 0)


@pytest.mark.parametrize(("first", "second", "size"), [(9, 3, 10), (6, 2, 7)])
def test_newcombes_own_examples_are_differences(first, second, size):
    # Table II of the paper, method 10: 0.1705 to 0.8090 and 0.0582 to 0.8062
    assert not is_within_noise(first / size, second / size, size)


# Sentences


def test_summary_against_numbers_by_hand():
    assert summarize(ROWS, 360) == [
        # 1,000,000 / 16,000 = 62.5; (352 - 346) / 360 = 1.67 points; 0.6 / 0.05 = 12
        "The int8 student is 62x smaller than the teacher, 1.7 points less accurate (6 of 360 test examples, within "
        "the noise) and 12x faster (LiteRT, 1 thread).",
        # (347 - 342) / 360 = 1.39 points
        "With all labels, distillation adds 1.4 points (5 of 360 test examples, within the noise).",
        # (330 - 300) / 360 = 8.33 points
        "With 100 labels, distillation adds 8.3 points (30 of 360 test examples).",
        # 358 / 360 = 99.44%
        "Exporting to int8 costs 0.3 points (1 of 360 test examples, within the noise); the file predicts the same "
        "class as the Keras student on 99.4% of the test examples.",
    ]


def test_a_loss_is_called_a_loss():
    rows = [replace(FEW_SCRATCH, accuracy=0.9), replace(FEW_DISTILLED, accuracy=0.8)]
    assert summarize(rows, 360) == ["With 100 labels, distillation loses 10.0 points (36 of 360 test examples)."]
    assert highlights(_report(rows=rows))[0][0] == "−10.0 points"


def test_no_gain_is_called_no_gain():
    assert summarize([SCRATCH, replace(DISTILLED, accuracy=SCRATCH["accuracy"])], 360) == [
        "With all labels, distillation changes nothing: both students reach 95.0%."
    ]


def test_a_larger_slower_and_better_student_is_said_to_be_one():
    student = replace(INT8, num_bytes=1_500_000, accuracy=1.0, latency_p50_ms=1.2)
    assert summarize([TEACHER, DISTILLED, student], 360)[:1] == [
        "The int8 student is 1.5x larger than the teacher, 2.2 points more accurate (8 of 360 test examples) and "
        "2.0x slower (LiteRT, 1 thread)."
    ]


def _like_the_teacher():
    same = {"parameters": TEACHER.parameters, "num_bytes": TEACHER.num_bytes, **TEACHER.values}
    return replace(INT8, **same, latency_p50_ms=0.61)


def test_an_equal_student_is_said_to_be_equal():
    assert summarize([TEACHER, DISTILLED, _like_the_teacher()], 360)[:1] == [
        "The int8 student is as large as the teacher, just as accurate and as fast (LiteRT, 1 thread)."
    ]


def test_a_missing_latency_is_left_out():
    sentence, _ = summarize([TEACHER, DISTILLED, replace(INT8, latency_p50_ms=None, runtime=None)], 360)
    assert sentence.endswith(
        "than the teacher and 1.7 points less accurate (6 of 360 test examples, within the noise)."
    )


@pytest.mark.parametrize("teacher", [replace(TEACHER, runtime="Keras"), replace(TEACHER, latency_p50_ms=None)])
def test_times_of_different_runtimes_are_not_compared(teacher):
    sentence, _ = summarize([teacher, DISTILLED, INT8], 360)
    assert sentence.endswith(" and takes 0.050 ms per example (LiteRT, 1 thread).")
    assert "faster" not in sentence


def test_without_files_the_parameters_are_compared():
    sentence = summarize([replace(TEACHER, num_bytes=None), DISTILLED], 360)[0]
    # 430,000 / 7,000 = 61.4
    assert sentence.startswith("The distilled student is 61x smaller than the teacher (by parameters) and 1.4 points")


def test_models_that_are_not_compared_have_no_sentence():
    assert summarize([replace(TEACHER, role=Role.MODEL), INT8], 360) == []
    assert summarize([TEACHER], 360) == []
    assert summarize([TEACHER, INT8], 360) == []  # its original is not in the table


def test_titles_are_words_and_nothing_else():
    """Reversing the titles does not change the statements about the models."""
    titles = [row.title for row in ROWS]
    renamed = [replace(row, title=title) for row, title in zip(ROWS, titles[::-1], strict=True)]
    conditions = {"s": {"steps": 1}, "d": {"steps": 2}}
    one, other = _report(conditions=conditions), _report(rows=renamed, conditions=conditions)
    assert one.summary == other.summary and highlights(one) == highlights(other)
    tables = [markdown_table(report).splitlines() for report in (one, other)]
    cells = [[line.partition(" | ")[2] for line in lines[2:9]] for lines in tables]
    assert cells[0] == cells[1]


def test_the_shipped_file_may_be_made_in_several_steps():
    """Exported from a pruned student that was made from the distilled one."""
    pruned = replace(DISTILLED, id="p", title="pruned", role=Role.MODEL, derived_from="d", accuracy=340 / 360)
    first, *_, last = summarize([TEACHER, DISTILLED, pruned, FLOAT, replace(INT8, derived_from="p")], 360)
    assert first.startswith("The int8 student is 62x smaller than the teacher")
    assert last.startswith("Exporting to int8 gains 1.7 points (6 of 360 test examples")


def test_large_test_sets_get_another_digit():
    assert "distillation adds 0.04 points (4 of 10,000 test examples, within the noise)." in summarize(
        [replace(SCRATCH, accuracy=0.9500), replace(DISTILLED, accuracy=0.9504)], 10_000
    )[0].replace("With all labels, ", "")


def test_highlights_are_the_same_facts():
    figures = highlights(_report())
    assert [figure for figure, _ in figures] == [
        "62x smaller",
        "−1.7 points",
        "12x faster",
        "+1.4 points",
        "+8.3 points",
    ]
    assert figures[0][1] == "file: 15.6 KiB instead of 977 KiB"
    assert figures[1][1] == "accuracy: 96.1% instead of 97.8%; 6 of 360 test examples, within the noise"


# Data


@pytest.mark.parametrize(
    "changes",
    [{"rows": []}, {"rows": [TEACHER, TEACHER]}, {"test_size": 0}, {"confusion": [[1]]}, {"class_names": ["a"]}],
)
def test_a_report_that_does_not_fit_is_refused(changes):
    with pytest.raises(ConfigurationError, match="Received.*Expected"):
        _report(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ClassCounts("t", "d", "int8", [5], {"t": [5], "d": [1], "int8": [0]})},
        {"classes": dataclasses.replace(CLASSES, teacher="x", right=CLASSES.right | {"x": [0, 0, 0]})},
        {"reliability": {"unknown": BINS}},
        {"disagreements": dataclasses.replace(DISAGREEMENTS, file="unknown")},
        {"disagreements": Disagreements("t", "int8", 1, 0, 0, [Disagreement(0, 0, 3, 1, 0.5, 0.5)])},
    ],
)
def test_comparisons_that_do_not_fit_are_refused(changes):
    with pytest.raises(ConfigurationError, match="do not fit the report. Received.*Expected"):
        _report(**changes)


@pytest.mark.parametrize(
    "changes", [{"accuracy": math.inf}, {"agreement": -0.1}, {"num_bytes": -1}, {"macro_f1": math.nan}]
)
def test_a_row_that_does_not_fit_is_refused(changes):
    with pytest.raises(ConfigurationError, match=f"{next(iter(changes))}.*Received"):
        replace(TEACHER, **changes)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ConfigurationError, match="'accuracy'.*Received: 97.2"):
        _report(rows=[replace(TEACHER, accuracy=97.2)])


def test_json_round_trip(tmp_path):
    report = _report()
    write_json(report, tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == 1
    assert Report.from_dict(data) == report


def test_arrays_paths_and_nan_become_what_json_knows():
    report = _report(
        confusion=np.eye(3, dtype=int),
        histories={"run": {"loss": [np.float32(0.5), float("nan"), math.inf]}},
        settings={"path": Path("a/b"), "on": date(2026, 1, 2), "pair": (1, None, True)},
    )
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert data["histories"]["run"]["loss"] == [0.5, None, None]
    assert data["settings"] == {"path": str(Path("a/b")), "on": "2026-01-02", "pair": [1, None, True]}
    render_html(Report.from_dict(data))


def test_another_schema_is_refused():
    with pytest.raises(ConfigurationError, match="Received: schema_version 2. Expected: schema_version 1"):
        Report.from_dict(_report().to_dict() | {"schema_version": 2})


@pytest.mark.parametrize("change", [{"color": 1}, {"rows": [{"id": "a"}]}])
def test_unknown_and_missing_keys_are_named(change):
    with pytest.raises(ConfigurationError, match="color|parameters|missing"):
        Report.from_dict(_report().to_dict() | change)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("classes", {"counts": [100.5, 200, 60]}),
        ("classes", {"right": {"t": ["a", "b", "c"]}}),
        ("disagreements", {"examples": None}),
        ("disagreements", {"shown_range": [0, 1, 2]}),
        ("disagreements", {"count": 1}),
        ("reliability", {"t": [1, 2]}),
    ],
)
def test_damaged_comparisons_are_refused(field, change):
    data = json.loads(json.dumps(_report().to_dict()))
    with pytest.raises(ConfigurationError, match="A key of the report is missing or unknown"):
        Report.from_dict(data | {field: data[field] | change})


def test_a_report_without_comparisons_is_read():
    empty = {"classes": None, "disagreements": None, "reliability": None}
    report = Report.from_dict(_report().to_dict() | empty)
    assert (report.classes, report.disagreements, report.reliability) == (None, None, {})


def test_the_summary_may_be_given():
    assert _report(summary=["As told."]).summary == ["As told."]


# Page


class _Page(HTMLParser):
    """Collects the tags, the links, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action", "srcset")]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


def test_the_page_loads_nothing():
    html = render_html(_report())
    page = _Page(html)
    assert page.links and all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)\)", html))
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_what_the_user_wrote_is_text():
    page = _Page(render_html(_report()))
    assert not {"script", "b", "i", "unlabeled"} & set(page.tags)
    for text in ("Digits & <b>letters</b>", "<script>", "<i>small</i>", "with <unlabeled> images"):
        assert text in page.text


def test_the_page_has_every_section_and_only_with_something_in_it():
    headings = ["In short", "Models", "Size against accuracy", "Latency against accuracy", "Training"]
    headings += ["Soft targets of the teacher", "Which classes are confused", "Is the confidence right?"]
    headings += ["Change per class", "Where the file and the teacher disagree", "Settings and environment"]
    assert re.findall("<h2>(.*)</h2>", render_html(_report())) == headings
    bare = Report("Bare", [model("only", "only", Role.MODEL, 10, 0.5, 0.5)], 20, ["a", "b"])
    assert re.findall("<h2>(.*)</h2>", render_html(bare)) == ["Models"]


def test_the_page_says_the_summary_the_settings_and_the_resolution():
    text = _Page(render_html(_report())).text
    assert all(sentence in text for sentence in summarize(ROWS, 360))
    assert "student.depth" in text and "3.15.1" in text
    assert "360 test examples: one example is 0.28 points" in text


def test_the_best_value_is_marked_unless_most_share_it():
    best = re.findall('class="best">([^<]*)<', render_html(_report()))
    assert best == ["97.8", "0.977", "100.0", "15.6 KiB", "8.79 KiB", "0.050/0.060"]


# Tables


def test_markdown_table():
    report = _report(rows=[TEACHER, replace(INT8, title="int8|4"), replace(SCRATCH, note="of old")])
    lines = markdown_table(report).splitlines()
    wilson = [binomtest(k, 360).proportion_ci(method="wilson") for k in (352, 346, 342)]
    teacher, int8, scratch = (f"({100 * ends.low:.1f}–{100 * ends.high:.1f})" for ends in wilson)
    assert lines[0].startswith("| Model | Parameters | File size |")
    assert lines[2:5] == [
        f"| teacher | 430,000 | 977 KiB | 879 KiB | **97.8** {teacher} | **0.977** | – | 0.600/0.700 |",
        f"| int8\\|4 | 7,000 (1/61) | **15.6 KiB** | **8.79 KiB** | 96.1 {int8} | 0.961 | 99.4 | **0.050/0.060** |",
        f"| student from scratch | 7,000 (1/61) | – | – | 95.0 {scratch} | 0.950 | – | – |",
    ]
    assert lines[6].startswith("360 test examples: one example is 0.28 points. A measured accuracy of 97.8% has")
    assert lines[6].endswith("Student from scratch: of old.")


def test_each_runtime_is_named():
    text = markdown_table(_report(rows=[replace(TEACHER, runtime="Keras"), FLOAT, INT8]))
    names = "distilled, float32 TFLite, distilled, int8 TFLite"
    assert f"Latency of one example: teacher on Keras; {names} on LiteRT, 1 thread." in text


LATENCY = {80: "0.050", 100: "0.050/0.060"}


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_table_fits(width):
    """Each row fits on one line, however many parameters the teacher has."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(_report(rows=[replace(TEACHER, parameters=23_587_712), *ROWS[1:]]), width))
    lines = console.export_text().splitlines()
    assert "…" not in "".join(lines) and max(map(len, lines)) <= width
    for row in ROWS:
        assert any(line.startswith(f"{row.title} ") for line in lines), row.title
    int8 = next(line for line in lines if line.startswith(INT8.title))
    assert all(cell in "".join(lines) for cell in ("23,587,712", "7,000 1/3,370", "15.6 KiB", "96.1"))
    assert int8.split()[-1] == LATENCY[width]


def test_a_wide_terminal_shows_all_columns():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_table(_report(), 120))
    text = console.export_text()
    assert all(head in text for head in ("gzip", "p50/p95 ms", "Agree", "F1")) and "8.79 KiB" in text


# Files


@pytest.mark.parametrize("write", [write_json, write_html])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, write):
    path = tmp_path / "report"
    path.write_text("old")

    def fail(*args):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk"):
            write(_report(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"] and path.read_text() == "old"
    write(_report(), str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"] and path.read_text() != "old"


PICTURES = {
    "size_accuracy": "size_accuracy",
    "latency_accuracy": "latency_accuracy",
    "training_curves": "training_curves",
    "soft_targets": "soft_targets",
    "confusion": "confusion_matrix",
    "reliability": "reliability_curves",
    "classes": "class_changes",
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_fails_costs_that_picture_alone(name, monkeypatch):
    def fail(*args, **settings):
        raise TypeError("Invalid shape (20,) for <image> data\nand more")

    monkeypatch.setattr(plots, PICTURES[name], fail)
    page = render_html(_report())
    assert page.count("<svg") == len(PICTURES) - 1 and page.count("This picture could not be drawn") == 1
    start = page.index(f'<section class="card" id="{name}">')
    assert "could not be drawn: TypeError: Invalid shape (20,) for &lt;image&gt; data</p>" in page[start : start + 600]


def test_the_same_report_makes_the_same_page():
    assert render_html(_report()) == render_html(_report())
