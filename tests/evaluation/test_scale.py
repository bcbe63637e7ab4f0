"""Sentences and table for tasks other than classification: direction, units, and no statement about noise."""

import pytest

from keras_kd.evaluation.report import Report, highlights, markdown_table, render_html
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.summary import ModelRow


def report(task, values, unit="examples", **more):
    """A report of teacher, student alone, distilled student, and int8 file, with these values of the main measure."""
    name = {"regression": "root_mean_squared_error", "segmentation": "mean_iou"}[task]
    rows = [
        ModelRow("t", "teacher", Role.TEACHER, 4000, {name: values[0]}, 4000),
        ModelRow("s", "alone", Role.SCRATCH, 1000, {name: values[1]}),
        ModelRow("d", "distilled", Role.DISTILLED, 1000, {name: values[2]}),
        ModelRow("q", "int8", Role.EXPORTED, 1000, {name: values[3]}, 1000, derived_from="d", format="int8", **more),
    ]
    return Report("t", rows, 200, ["0", "1"], task=task, unit=unit)


def test_a_lower_error_is_better():
    made = report("regression", [0.5, 0.75, 0.625, 0.6875])
    assert made.summary == [
        "The int8 student is 4.0x smaller than the teacher and 0.188 worse in RMSE (0.6875 instead of 0.5).",
        "With all labels, distillation improves RMSE by 0.125 (0.625 instead of 0.75).",
        "Exporting to int8 worsens RMSE by 0.0625 (0.6875 instead of 0.625).",
    ]
    assert highlights(made)[1:] == [
        ("+0.188", "RMSE: 0.6875 instead of 0.5"),
        ("−0.125", "from distillation with all labels; 0.625 instead of 0.75"),
    ]
    best = [line for line in markdown_table(made).splitlines() if "**0.500**" in line]
    assert len(best) == 1 and best[0].startswith("| teacher |")


def test_shares_of_positions_are_points_without_noise():
    made = report("segmentation", [0.9, 0.8, 0.85, 0.84], unit="images", agreement=0.985)
    assert made.summary == [
        "The int8 student is 4.0x smaller than the teacher and 6.0 points worse in mean IoU (84.0% instead of 90.0%).",
        "With all labels, distillation adds 5.0 points of mean IoU (85.0% instead of 80.0%).",
        "Exporting to int8 costs 1.0 points (84.0% instead of 85.0%); it predicts the same class as the Keras student "
        "on 98.5% of the test pixels.",
    ]
    text = markdown_table(made)
    assert "200 test images. No interval is computed for mean IoU" in text and "95%" not in text


@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_equal_models_and_missing_values(task):
    same = report(task, [0.5, 0.5, 0.5, 0.5]).summary
    noun = "RMSE" if task == "regression" else "mean IoU"
    assert same[0].endswith(f"smaller than the teacher and equal in {noun}.") and "changes nothing" in same[1]
    bare = report(task, [None, None, None, None])
    assert bare.summary[0] == "The int8 student is 4.0x smaller than the teacher."
    assert "–" in markdown_table(bare)
    assert "cannot be drawn" not in render_html(report(task, [0.5, 0.7, 0.6, 0.65]))


def test_a_large_loss_of_a_regression_is_not_a_divergence():
    """Targets in the thousands give a mean squared error in the millions, which decreases."""
    falling = {"t": {"loss": [9e6, 4e6], "val_loss": [9e6, 5e6]}}
    rows = report("regression", [0.5, 0.7, 0.6, 0.65]).rows
    assert "diverged" not in Report("t", rows, 9, ["0"], task="regression", histories=falling).summary[0]
    rising = {"t": {"loss": [3.0, 400.0]}}
    assert "diverged" in Report("t", rows, 9, ["0"], task="regression", histories=rising).summary[0]
