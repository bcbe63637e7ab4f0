"""The caveats at the top of a report: accuracy at chance, diverged trainings, and unlike arms."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_kd.evaluation import Report
from keras_kd.evaluation.caveats import chance_level, diverged, is_at_chance
from keras_kd.evaluation.page import highlights, render_html
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.scale import Scale
from keras_kd.evaluation.summary import likeness, summarize
from keras_kd.tasks import Classification

TEACHER, SCRATCH, DISTILLED, INT8 = "teacher", "student from scratch", "student distilled", "distilled, int8 TFLite"
CLASSES = [str(number) for number in range(10)]


def rows(teacher, scratch, distilled, int8):
    """Report rows from the number of correct examples out of 360."""
    values = [{"accuracy": count / 360, "macro_f1": 0.1} for count in (teacher, scratch, distilled, int8)]
    return [
        ModelRow("teacher", TEACHER, Role.TEACHER, 100_000, values[0], 4000),
        ModelRow("scratch", SCRATCH, Role.SCRATCH, 1000, values[1], 1000),
        ModelRow("distilled", DISTILLED, Role.DISTILLED, 1000, values[2], 1000),
        ModelRow(
            "int8",
            INT8,
            Role.EXPORTED,
            1000,
            values[3],
            1000,
            derived_from="distilled",
            format="int8",
        ),
    ]


def report(counts, histories=None, **settings):
    confusion = np.eye(10, dtype=int) * 36
    return Report("t", rows(*counts), 360, CLASSES, confusion=confusion, histories=histories or {}, **settings)


def test_chance_is_the_share_of_the_largest_class():
    assert chance_level([[5, 1], [0, 4]]) == 0.6
    assert chance_level(np.zeros((3, 3))) is None


@pytest.mark.parametrize(("right", "size"), [(36, 360), (47, 360), (48, 360), (8, 10), (9, 10), (3, 10)])
def test_at_chance_where_scipy_s_interval_reaches_it(right, size):
    low = binomtest(right, size).proportion_ci(method="wilson").low
    for chance in (0.1, 0.5):
        assert is_at_chance(right / size, chance, size) == (low <= chance)


def test_accuracy_at_chance_is_said_first_and_not_praised():
    made = report((36, 36, 36, 36))
    first, against, gain, exporting = made.summary
    assert first.startswith(
        "No better than always predicting the most frequent class (10.0%), within the noise of 360 test examples"
    )
    assert first.endswith(f"{TEACHER} 10.0%; {SCRATCH} 10.0%; {DISTILLED} 10.0%; {INT8} 10.0%.")
    assert against.endswith("is 4.0x smaller than the teacher and no better than guessing (nor is the teacher).")
    assert gain == "With all labels, neither student is better than guessing (10.0% and 10.0%, alone and distilled)."
    assert exporting == "Exporting to int8 has no accuracy to lose."
    for text in (" ".join(made.summary), str(highlights(made)), render_html(made)):
        assert not any(word in text for word in ("just as accurate", "same accuracy", "costs no accuracy"))
    assert first in render_html(made)


def test_one_that_learned_nothing_among_others_that_did():
    first, *others = report((350, 36, 340, 340)).summary
    assert first.endswith(f"examples: {SCRATCH} 10.0%.")
    assert others == summarize(rows(350, 36, 340, 340), Scale(Classification().headline, 360))


def test_without_a_confusion_matrix_nothing_is_known_of_chance():
    made = Report("t", rows(36, 36, 36, 36), 360, CLASSES)
    assert made.chance is None and "just as accurate" in made.summary[0]


@pytest.mark.parametrize(
    ("history", "is_diverged"),
    [
        ({"loss": [2.3, 1.0]}, False),
        ({"loss": [2.3, 5e29]}, True),
        ({"loss": [5e30, 5e29]}, True),
        ({"loss": [5e29]}, True),
        ({"loss": [2.3, math.nan]}, True),
        ({"loss": [2.3, None]}, True),  # NaN in JSON
        ({"loss": [900.0, 30.0]}, False),  # heavy loss weights, but decreasing
        ({"loss": [9000.0, 500.0], "student_loss": [2.0, 0.1]}, False),  # hints can reach thousands
        ({"loss": [2.0, 1.0], "student_loss": [2.3, 1e4]}, True),
        ({}, False),
    ],
)
def test_divergence_is_seen_in_the_loss_on_the_labels(history, is_diverged):
    assert bool(diverged({"student": history}, guessing=math.log(10))) == is_diverged


def test_a_diverged_training_is_said_first():
    made = report((350, 36, 36, 36), {"scratch": {"loss": [2.0, 5e29]}, "distilled": {"student_loss": [2.0, 0.1]}})
    assert made.summary[0] == "The training of the student from scratch diverged: its loss ended at 5e+29."
    again = Report.from_dict(made.to_dict() | {"summary": None})
    assert again.summary == made.summary


ALIKE = {"initial weights": "sha256:1", "examples": "train", "views": 2, "steps": 500}


def test_unlike_arms_are_named():
    models = rows(350, 340, 345, 345)
    both = "With all labels, the student alone and the distilled student"
    same = likeness(models, {"scratch": ALIKE, "distilled": dict(ALIKE)})
    assert same == [f"{both} were trained with the same initial weights, examples, views, steps."]
    unlike = likeness(models, {"scratch": ALIKE, "distilled": ALIKE | {"views": 8, "steps": 400}})
    assert unlike == [f"{both} differ in more than the teacher: views (2; 8), steps (500; 400)."]
    assert likeness(models, {"scratch": ALIKE}) == likeness(models, {}) == []
    made = report((350, 340, 345, 345), conditions={"scratch": ALIKE, "distilled": ALIKE | {"views": 8}})
    assert "differ in more than the teacher: views (2; 8)." in render_html(made)
