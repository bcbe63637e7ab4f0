"""Sentences and table for tasks other than classification: direction, units, intervals, noise."""

import types

import numpy as np
import pytest
from scipy import stats

from keras_kd import tasks
from keras_kd.evaluation.page import highlights, render_html
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.scale import jackknife_interval, replicates
from keras_kd.evaluation.table import markdown_table


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
        "Exporting to int8 costs 1.0 points (84.0% instead of 85.0%); the file predicts the same class as the Keras "
        "student on 98.5% of the test pixels.",
    ]
    text = markdown_table(made)
    assert "200 test images. The mean IoU has no interval here" in text and "95%" not in text


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


# Intervals by the jackknife


def errors(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 1))


def rmse_interval(residuals):
    zeros = np.zeros_like(residuals)
    values = replicates(tasks.get("regression"), residuals, zeros)
    return jackknife_interval(float(np.sqrt(np.mean(residuals**2))), values)


def test_the_interval_of_a_mean_is_students_interval_of_the_group_means():
    """Leaving out one of 20 equal groups changes a mean by what the mean of that group differs, over 19."""
    groups = np.random.default_rng(0).normal(size=20)
    without = [np.delete(groups, index).mean() for index in range(20)]
    expected = stats.t.interval(0.95, 19, loc=groups.mean(), scale=groups.std(ddof=1) / np.sqrt(20))
    np.testing.assert_allclose(jackknife_interval(groups.mean(), without), expected, rtol=1e-12)


def test_the_interval_of_an_rmse_is_near_that_of_the_bootstrap():
    residuals = errors(2000, seed=1)
    low, high = rmse_interval(residuals)
    bootstrap = stats.bootstrap(
        (residuals[:, 0],),
        lambda x, axis: np.sqrt(np.mean(x**2, axis=axis)),
        n_resamples=999,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert high - low == pytest.approx(bootstrap.high - bootstrap.low, rel=0.4)


def test_about_95_of_100_intervals_contain_the_true_value():
    contain = [low <= 1.0 <= high for low, high in (rmse_interval(errors(200, seed)) for seed in range(300))]
    assert 0.92 < np.mean(contain) < 0.98


@pytest.mark.parametrize("count", [2, 7, 20, 25])
def test_each_example_is_left_out_once(count):
    seen = []
    measure = types.SimpleNamespace(is_proportion=False, compute=lambda ids: seen.append(ids) or 0.5)
    task = types.SimpleNamespace(headline=measure, scored=lambda outputs, labels, from_logits: (outputs,))
    assert replicates(task, np.arange(count), np.zeros(count)) == [0.5] * min(count, 20)
    left_out = [np.setdiff1d(np.arange(count), ids) for ids in seen]
    assert sorted(np.concatenate(left_out)) == list(range(count))
    assert {len(ids) for ids in left_out} <= {count // len(seen), -(-count // len(seen))}


def test_shares_of_examples_and_undefined_values_have_no_replicates():
    y = np.arange(40) % 2
    assert replicates(tasks.get("classification"), np.eye(2)[y], y, from_logits=False) == []
    one = np.full((4, 1), np.nan)
    one[0] = 1.0  # the only target
    assert replicates(tasks.get("regression"), np.zeros((4, 1)), one) == []


@pytest.mark.parametrize("task", ["multi_label", "segmentation", "token_classification"])
def test_other_tasks_have_replicates(task):
    rng = np.random.default_rng(0)
    shape = {"multi_label": (60, 3), "segmentation": (60, 4, 4), "token_classification": (60, 5)}[task]
    labels = rng.integers(0, 2, shape)
    outputs = rng.normal(size=shape if task == "multi_label" else (*shape, 2))
    kind = tasks.get(task)
    values = replicates(kind, outputs, labels, from_logits=True)
    value = kind.measure(outputs, labels, from_logits=True)[kind.headline.name]
    low, high = jackknife_interval(value, values)
    assert len(values) == 20 and 0 < low < value < high < 1


def with_replicates(row, spread):
    value = row.values["root_mean_squared_error"]
    row.replicates.extend(value + spread * np.linspace(-1, 1, 20))
    return row


def test_a_small_difference_is_within_the_noise_of_the_paired_examples():
    """Both students vary by the same amount without the same groups: their difference is known well."""
    made = report("regression", [0.5, 0.75, 0.625, 0.6875])
    teacher, alone, distilled, small = (
        with_replicates(row, spread) for row, spread in zip(made.rows, (0.1, 0.02, 0.02, 0.01), strict=True)
    )
    scale = made.scale
    assert not scale.is_within_noise(distilled, alone) and scale.is_within_noise(small, teacher)
    assert "within the noise" not in scale.proof(distilled, alone)
    assert scale.proof(small, teacher) == "0.6875 instead of 0.5, within the noise"
    assert highlights(type(made)("t", made.rows, 200, ["0"], task="regression"))[1][1].endswith("within the noise")
    low, high = scale.interval(teacher)
    assert low == 0 and high > 0.5  # an RMSE is not negative
    text = markdown_table(made)
    assert f"0.625 ({scale.interval(distilled)[0]:.3f}–{scale.interval(distilled)[1]:.3f})" in text
    assert "A measured RMSE of 0.5 has a 95% interval of 0 to" in text
