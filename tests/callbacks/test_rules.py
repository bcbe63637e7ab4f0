"""The rules for alpha against their formulas, on sequences of logs."""

import math

import pytest

from keras_kd.callbacks import DynamicWeightAverage, EqualParts, GapToTeacher
from keras_kd.errors import ConfigurationError


def alphas(rule, rows, alpha=0.8):
    state, found = rule.begin(alpha), []
    for row in rows:
        value, state = rule.after_epoch(state, *row)
        found.append(value)
    return found


@pytest.mark.parametrize(
    ("monitor", "teacher", "values"),
    [("val_accuracy", 0.9, [0.5, 0.7, 0.6, 0.9, 0.95, 0.3]), ("val_loss", 0.1, [0.5, 0.3, 0.4, 0.1, 0.05, 0.7])],
)
def test_the_gap_as_a_share_of_the_first(monitor, teacher, values):
    """Half the gap is half of alpha; at the teacher and beyond 0; never above the alpha of the beginning."""
    expected = [0.8, 0.4, 0.6, 0.0, 0.0, 0.8]
    assert alphas(GapToTeacher(monitor, teacher), [[value] for value in values]) == pytest.approx(expected, abs=1e-12)


def test_a_student_that_begins_above_its_teacher():
    assert alphas(GapToTeacher("val_accuracy", 0.5), [[0.6], [0.5], [0.4]]) == [0.0, 0.0, 0.8]


def test_the_teacher_is_measured_once():
    calls = []
    rule = GapToTeacher("val_accuracy", lambda: calls.append(1) or 0.9)
    assert alphas(rule, [[0.5], [0.7]]) == pytest.approx([0.8, 0.4]) and len(calls) == 1


def test_equal_parts_of_moving_averages():
    rows = [(2.0, 6.0), (1.0, 1.0), (0.0, 0.0)]
    means, expected = None, []
    for row in rows:
        means = row if means is None else tuple(0.9 * mean + 0.1 * one for mean, one in zip(means, row, strict=True))
        expected.append(means[0] / sum(means))
        assert (1 - expected[-1]) * means[0] == pytest.approx(expected[-1] * means[1])
    assert alphas(EqualParts(), rows) == pytest.approx(expected)
    assert alphas(EqualParts(momentum=0.0), [*rows, (1.0, 0.0)]) == [0.25, 0.5, 0.5, 1.0]


def test_dynamic_weight_average():
    """Equation 7 of Liu et al., 2019, for two tasks, normalized; the first two epochs have equal weights there."""
    rows = [(4.0, 9.0), (2.0, 8.0), (1.0, 8.0), (1.0, 2.0)]

    def published(now, last):
        student, distillation = (math.exp(one / before / 2.0) for one, before in zip(now, last, strict=True))
        return distillation / (student + distillation)

    expected = [0.5, *(published(now, last) for now, last in zip(rows[1:], rows[:-1], strict=True))]
    assert alphas(DynamicWeightAverage(), rows, alpha=0.5) == pytest.approx(expected)
    assert expected[1] > 0.5 and expected[-1] < 0.5
    assert alphas(DynamicWeightAverage(), [(0.0, 1.0), (1.0, 1.0)]) == [0.8, 0.5]
    assert alphas(DynamicWeightAverage(1e-3), [(1e-6, 1.0), (1e9, 1.0)])[-1] == pytest.approx(0.0)


@pytest.mark.parametrize("rule", [EqualParts(), DynamicWeightAverage()])
def test_a_negative_loss_is_refused(rule):
    with pytest.raises(ConfigurationError, match="none is negative"):
        rule.after_epoch(rule.begin(0.5), 1.0, -0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GapToTeacher("val_quality", 0.5), "does not show whether lower or higher"),
        (lambda: GapToTeacher("val_accuracy", 0.5, mode="best"), "Invalid 'mode'"),
        (lambda: GapToTeacher(None, 0.5), "Invalid 'monitor'"),
        (lambda: GapToTeacher("val_accuracy", "good"), "Invalid 'teacher'"),
        (lambda: GapToTeacher("val_accuracy", float("nan")), "Invalid 'teacher'"),
        (lambda: GapToTeacher("val_accuracy", 97.0), "Received: 97.0.*accuracies as shares"),
        (lambda: GapToTeacher("val_accuracy", lambda: 97.0).begin(0.5), "accuracies as shares"),
        (lambda: EqualParts(momentum=1.0), "Invalid 'momentum'"),
        (lambda: DynamicWeightAverage(temperature=0.0), "Invalid 'temperature'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
