"""The comparisons of a report against brute force and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import expected_calibration_error
from keras_kd.evaluation.comparison import (
    ClassCounts,
    Disagreement,
    Disagreements,
    find_disagreements,
    pareto_front,
    predictions,
    reliability,
)
from keras_kd.teachers.calibration import calibration_error

# The Pareto front

NUMBER = st.one_of(st.integers(0, 4).map(float), st.sampled_from([None, math.nan, math.inf, -math.inf, 0.5]))


def _front_by_pairs(costs, qualities, sign):
    def known(index):
        return all(value is not None and not math.isnan(value) for value in (costs[index], qualities[index]))

    def dominates(one, other):
        worse = (costs[one] > costs[other], sign * qualities[one] < sign * qualities[other])
        better = (costs[one] < costs[other], sign * qualities[one] > sign * qualities[other])
        return any(better) and not any(worse)

    points = [index for index in range(len(costs)) if known(index)]
    return {index for index in points if not any(dominates(other, index) for other in points)}


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=9), st.booleans())
def test_the_front_is_what_no_other_point_dominates(points, higher):
    costs, qualities = [cost for cost, _ in points], [quality for _, quality in points]
    front = pareto_front(costs, qualities, higher_is_better=higher)
    assert set(front) == _front_by_pairs(costs, qualities, 1 if higher else -1)
    assert len(set(front)) == len(front)
    assert [costs[index] for index in front] == sorted(costs[index] for index in front)


def test_the_front_by_hand():
    # the second is as good as the fourth and cheaper; the two of 10 are equal
    assert pareto_front([10, 20, 10, 30, 5], [0.9, 0.95, 0.9, 0.95, 0.2]) == [4, 0, 2, 1]
    assert pareto_front([1, 2, 3], [3.0, 1.0, 2.0], higher_is_better=False) == [0, 1]
    assert pareto_front([], []) == []


def test_a_point_without_a_quality_is_refused():
    with pytest.raises(ConfigurationError, match="2 costs, 1 qualities"):
        pareto_front([1, 2], [1.0])


# Predictions

LOGITS = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * 2
LABELS = np.random.default_rng(1).integers(0, 5, 200)


def _softmax(logits):
    shares = np.exp(logits.astype(np.float64))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_confidence_is_the_probability_of_the_predicted_class(from_logits):
    probabilities = _softmax(LOGITS)
    classes, sure = predictions(LOGITS if from_logits else probabilities, from_logits=from_logits)
    np.testing.assert_array_equal(classes, LOGITS.argmax(axis=1))
    np.testing.assert_allclose(sure, probabilities.max(axis=1), rtol=1e-6)


def test_the_probabilities_of_an_integer_file_need_not_add_up_to_one():
    _, sure = predictions(np.array([[0.5, 0.5039], [1.0039, 0.0]], np.float32), from_logits=False)
    np.testing.assert_allclose(sure, [0.5039, 1.0], rtol=1e-6)


def test_predictions_that_are_not_finite_are_refused():
    with pytest.raises(ConfigurationError, match="NaN or infinity"):
        predictions(np.array([[0.5, np.nan]]), from_logits=False)


def test_the_bins_are_those_of_the_calibration_error_without_the_unlabeled():
    labels = np.where(np.arange(200) < 50, -1, LABELS)
    bins = reliability(predictions(LOGITS, from_logits=True), labels)
    assert sum(bins.count) == 150
    expected = expected_calibration_error(LOGITS[50:], LABELS[50:], from_logits=True)
    assert calibration_error(bins) == pytest.approx(expected)


# Classes


def _counts(classes, labels, num_classes=5):
    return ClassCounts.of(classes, labels, num_classes, teacher="t", student="s", file="f")


def _classes(seed):
    generator = np.random.default_rng(seed)
    return np.where(generator.random(200) < 0.6, LABELS, generator.integers(0, 5, 200))


def test_the_accuracy_of_each_class_is_the_recall_of_scikit_learn():
    classes = {"t": _classes(2), "s": _classes(3), "f": _classes(4), "another": _classes(5)}
    labels = np.where(np.arange(200) < 30, -1, LABELS)
    counted = _counts(classes, labels)
    assert set(counted.right) == {"t", "s", "f"}
    known = labels >= 0
    recalls = {
        id: recall_score(labels[known], one[known], average=None, labels=range(5)) for id, one in classes.items()
    }
    changes = counted.changes()
    assert sorted(one.index for one in changes) == list(range(5))
    for one in changes:
        assert one.count == (labels == one.index).sum()
        found = (one.teacher, one.student, one.file, one.student_change, one.file_change)
        t, s, f = (recalls[id][one.index] for id in "tsf")
        assert found == pytest.approx((t, s, f, s - t, f - t))
    losses = [one.file_change for one in changes]
    assert losses == sorted(losses) and losses[0] < 0
    counts = confusion_matrix(labels[known], classes["f"][known], labels=range(5))
    assert counted.counts == counts.sum(axis=1).tolist() and counted.right["f"] == np.diag(counts).tolist()


def test_classes_without_examples_are_left_out_and_ties_are_ordered():
    right = {"t": [0, 10, 20, 10, 10], "s": [0, 10, 20, 9, 10], "f": [0, 9, 18, 9, 9]}
    changes = ClassCounts("t", "s", "f", [0, 10, 20, 10, 10], right).changes()
    assert [one.index for one in changes] == [3, 2, 1, 4]  # the student's loss, then the larger class, then the number


@pytest.mark.parametrize("right", [[1, 3], [-1, 0], [1], None])
def test_counts_that_do_not_fit_are_refused(right):
    numbers = {"t": [1, 2], "s": [1, 2]} | ({} if right is None else {"f": right})
    with pytest.raises(ConfigurationError, match="Invalid counts of 'f'. Received.*Expected"):
        ClassCounts("t", "s", "f", [1, 2], numbers)


# Disagreements


def _by_hand(teacher, file, labels, limit):
    found = []
    for row in range(len(labels)):
        one, other = int(np.argmax(teacher[row])), int(np.argmax(file[row]))
        if one != other:
            found.append((min(teacher[row][one], file[row][other]), row, one, other))
    found.sort(key=lambda item: (-item[0], item[1]))
    return [(row, int(labels[row]), one, other) for _, row, one, other in found[:limit]], found


@pytest.mark.parametrize("limit", [0, 3, 24, 1000])
def test_the_disagreements_are_those_found_one_by_one(limit):
    generator = np.random.default_rng(7)
    teacher, file = generator.dirichlet(np.ones(4), (2, 100)).round(1)  # with ties
    labels = np.where(np.arange(100) < 10, -1, generator.integers(0, 4, 100))
    models = {"a": predictions(teacher, from_logits=False), "b": predictions(file, from_logits=False)}
    found = find_disagreements(models, labels, teacher="a", file="b", limit=limit)
    expected, everything = _by_hand(teacher, file, labels, limit)
    assert [(one.index, one.label, one.teacher, one.file) for one in found.examples] == expected
    assert found.count == len(everything) > 24
    assert found.teacher_right == sum(labels[row] == one for _, row, one, _ in everything)
    assert found.file_right == sum(labels[row] == other for _, row, _, other in everything)
    for one in found.examples:
        assert one.teacher_confidence == teacher[one.index].max() and one.file_confidence == file[one.index].max()
        assert one.teacher_is_right == (one.label == one.teacher) and one.file_is_right == (one.label == one.file)


def test_models_that_agree_have_no_disagreements():
    models = dict.fromkeys("ab", predictions(LOGITS, from_logits=True))
    found = find_disagreements(models, LABELS, teacher="a", file="b")
    assert (found.count, found.examples) == (0, [])


@pytest.mark.parametrize(
    "change", [{"file": 1}, {"index": -1}, {"label": -2}, {"teacher": -1}, {"file_confidence": 1.5}, {"label": 0.5}]
)
def test_an_impossible_example_is_refused(change):
    example = {"index": 0, "label": 1, "teacher": 1, "file": 0, "teacher_confidence": 0.5, "file_confidence": 0.5}
    with pytest.raises(ConfigurationError, match="Received"):
        Disagreement(**example | change)


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 1, 1)])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ConfigurationError, match="Invalid disagreements"):
        Disagreements("a", "b", *numbers, [Disagreement(0, 1, 1, 0, 0.5, 0.5)])
