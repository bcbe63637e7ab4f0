"""The sections of a page that compare models, read back from the HTML."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_kd.evaluation.comparison import ClassCounts, Disagreement, Disagreements
from keras_kd.evaluation.page import render_html
from keras_kd.evaluation.plots import as_png
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow

NAMES = ["cat", "<script>alert(1)</script>", "\"dog\" & 'co'"]
PIXELS = [np.random.default_rng(seed).integers(0, 256, (8, 6, 3), np.uint8) for seed in range(3)]


def _row(id, role, accuracy, latency=None, **more):
    values = {"accuracy": accuracy, "macro_f1": accuracy}
    return ModelRow(id, f"the {id}", role, 10, values, latency_p50_ms=latency, latency_p95_ms=latency, **more)


LITERT = {"runtime": "LiteRT, 1 thread"}
ROWS = [
    _row("teacher", Role.TEACHER, 0.9, 2.0, num_bytes=4000, **LITERT),
    _row("student", Role.DISTILLED, 0.8),
    _row("float", Role.EXPORTED, 0.8, 0.5, num_bytes=1000, derived_from="student", **LITERT),
    _row("int8", Role.EXPORTED, 0.8, 0.2, num_bytes=1000, derived_from="student", format="int8", **LITERT),
]
EXAMPLES = [
    Disagreement(17, 1, 1, 0, 0.991, 0.754, as_png(PIXELS[0])),
    Disagreement(4, 2, 1, 2, 0.6, 0.5, as_png(PIXELS[1])),
    Disagreement(0, -1, 0, 2, 0.5, 0.4, as_png(PIXELS[2])),
]
FOUND = Disagreements("teacher", "int8", 30, 20, 8, EXAMPLES, [-1.0, 1.0])


def _report(**fields):
    return Report("Pets", fields.pop("rows", ROWS), 200, fields.pop("class_names", NAMES), unit="images", **fields)


class _Section(HTMLParser):
    """The text of a section by element, and its images; what follows a tag `br` is a new text."""

    def __init__(self, page, name):
        super().__init__()
        self.cells, self.images = [], []
        found = re.search(rf'<section class="card" id="{name}">.*?</section>', page, re.DOTALL)
        self.text = "" if found is None else found.group()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag in ("th", "td", "figcaption", "br", "p", "li", "svg"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def _cells(page, name):
    return [" ".join(cell.split()) for cell in _Section(page, name).cells]


def test_each_picture_stands_beside_its_own_labels():
    page = render_html(_report(disagreements=FOUND))
    section = _Section(page, "disagreements")
    for image, pixels in zip(section.images, PIXELS, strict=True):
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert [image["alt"] for image in section.images] == [
        f"Test example 17, of class {NAMES[1]}",
        f"Test example 4, of class {NAMES[2]}",
        "Test example 0, of class unknown",
    ]
    assert _cells(page, "disagreements")[1:10] == [
        f"{NAMES[1]} (example 17)",
        f"teacher: {NAMES[1]} (99%), right",
        "file: cat (75%), wrong",
        f"{NAMES[2]} (example 4)",
        f"teacher: {NAMES[1]} (60%), wrong",
        f"file: {NAMES[2]} (50%), right",
        "unknown (example 0)",
        "teacher: cat (50%)",
        f"file: {NAMES[2]} (40%)",
    ]


def test_the_numbers_of_disagreements_and_the_shown_range_are_said():
    first, *_, shown, black = _cells(render_html(_report(disagreements=FOUND)), "disagreements")
    assert first == (
        "The teacher and the file (the int8) predict different classes for 30 of 200 test images: "
        "the teacher is right for 20, the file for 8, neither for 2."
    )
    assert shown.startswith("The 3 most confident of 30 are shown")
    assert black == "Black is -1 and white is 1 in the numbers that the models read."


def test_without_disagreements_the_page_says_so():
    page = render_html(_report(disagreements=Disagreements("teacher", "int8", 0, 0, 0, [])))
    (sentence,) = _cells(page, "disagreements")
    assert sentence == "The file (the int8) predicts the teacher's class for all 200 test images."


RIGHT = {"teacher": [40, 60, 0], "student": [40, 55, 0], "int8": [41, 50, 0]}


def test_the_table_of_classes_is_that_of_the_counts_the_worst_first():
    counts = ClassCounts("teacher", "student", "int8", [50, 100, 0], RIGHT)
    cells = _cells(render_html(_report(classes=counts)), "classes")
    start = cells.index("Class")
    assert cells[start : start + 15] == [
        *("Class", "Test images", "the teacher %", "the student %", "the int8 %"),
        *(NAMES[1], "100", "60.0", "55.0 (−5.0)", "50.0 (−10.0)"),
        *("cat", "50", "80.0", "80.0 (±0.0)", "82.0 (+2.0)"),
    ]
    assert cells[start + 15 :] == [
        "Without test images, and left out: 1 of 3 classes.",
        "In a class of 75 test images, one of them is 1.3 points. "
        "The change of the file exceeds the noise (95% interval) in 0 of 2 classes.",
    ]


def test_of_many_classes_the_worst_thirty_are_shown():
    count, names = 200, [f"class {index}" for index in range(200)]
    right = {"teacher": [10] * count, "student": [9] * count, "int8": [index % 10 for index in range(count)]}
    counts = ClassCounts("teacher", "student", "int8", [10] * count, right)
    page = render_html(_report(classes=counts, class_names=names))
    section = _cells(page, "classes")
    worst = [f"class {index}" for index in sorted(range(count), key=lambda index: (index % 10, index))[:30]]
    assert [cell for cell in section if re.fullmatch(r"class \d+", cell)] == worst
    assert "The 30 worst of 200 classes; report.json has all of them." in section
    # Newcombe's interval of 10 of 10 minus 6 of 10 is above 0, that of 10 of 10 minus 7 of 10 is not
    assert "The change of the file exceeds the noise (95% interval) in 140 of 200 classes." in section[-1]
    assert len(page) < 250_000


def test_the_fronts_are_named_in_order_with_ties():
    page = render_html(_report())
    assert "Pareto front, the cheapest first: the float (1000 B, 80.0%); the int8 (1000 B, 80.0%); " in page
    assert "Pareto front, the cheapest first: the int8 (0.200 ms, 80.0%); the teacher (2.00 ms, 90.0%)." in page


def test_latencies_of_another_runtime_are_left_out_and_named():
    rows = [_row("teacher", Role.TEACHER, 0.9, 0.1, num_bytes=4000, runtime="Keras on <a GPU>"), *ROWS[1:]]
    section = _Section(render_html(_report(rows=rows)), "latency_accuracy").text
    assert "the int8 (0.200 ms, 80.0%). Left out, since timed on another runtime: the teacher." in section
    assert "on LiteRT, 1 thread;" in section and "the teacher: 0.1" not in section


@pytest.mark.parametrize("latency", [None, 0.0])
def test_without_latencies_their_picture_is_left_out(latency):
    rows = [_row("teacher", Role.TEACHER, 0.9, latency, num_bytes=4000)]
    page = render_html(_report(rows=rows))
    assert 'id="size_accuracy"' in page and 'id="latency_accuracy"' not in page


def test_classes_without_any_test_example_are_no_section():
    counts = ClassCounts("teacher", "student", "int8", [0, 0, 0], {id: [0, 0, 0] for id in RIGHT})
    assert 'id="classes"' not in render_html(_report(classes=counts))
