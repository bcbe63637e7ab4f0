"""Accuracy and F1 against values computed by hand, shown next to each test."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.accuracy import (
    accuracy,
    agreement,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    measure,
)
from keras_kd.tasks.decisions import class_ids

# true 0 0 0 0 1 1 2 2, predicted 0 0 0 1 1 2 2 0
TRUE = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 2, 2, 0])
LOGITS = np.eye(3)[PREDICTED] * 4 - 1
CONFUSION = [[3, 1, 0], [0, 1, 1], [1, 0, 1]]
# class 0: TP 3, FP 1, FN 1: 6/8; class 1: TP 1, FP 1, FN 1: 2/4; class 2: TP 1, FP 1, FN 1: 2/4
MACRO_F1 = (6 / 8 + 2 / 4 + 2 / 4) / 3


@pytest.mark.parametrize("predictions", [LOGITS, PREDICTED], ids=["logits", "classes"])
@pytest.mark.parametrize("labels", [TRUE, TRUE[:, None], np.eye(3)[TRUE], TRUE.astype(float)])
def test_three_classes_in_every_form(predictions, labels):
    assert accuracy(predictions, labels) == 5 / 8
    assert macro_f1(predictions, labels) == pytest.approx(MACRO_F1, rel=1e-12)
    assert confusion_matrix(predictions, labels).tolist() == CONFUSION


def test_measure_brings_all_of_it_together():
    reference = np.eye(3)[[0, 0, 0, 1, 1, 2, 0, 1]]  # differs from the predictions in the last two rows
    quality = measure(LOGITS, TRUE, reference)
    assert (quality["accuracy"], quality.agreement, quality.num_examples) == (5 / 8, 6 / 8, 8)
    assert quality["macro_f1"] == pytest.approx(MACRO_F1, rel=1e-12)
    assert quality.confusion.tolist() == CONFUSION
    assert measure(LOGITS, TRUE).agreement is None


def test_examples_without_a_label_are_left_out():
    labels = np.where(np.arange(8) % 2, -1, TRUE)
    rows = np.arange(8) % 2 == 0
    for values in (labels, np.where(labels[:, None] == np.arange(3), 1, 0)):
        quality = measure(LOGITS, values)
        assert quality["accuracy"] == accuracy(LOGITS[rows], TRUE[rows])
        assert quality.confusion.tolist() == confusion_matrix(LOGITS[rows], TRUE[rows]).tolist()
        error = expected_calibration_error(LOGITS, values, from_logits=True)
        assert error == expected_calibration_error(LOGITS[rows], TRUE[rows], from_logits=True)


def test_a_class_that_never_occurs_has_a_row_but_no_share_in_macro_f1():
    logits = np.hstack([LOGITS, np.full((8, 1), -9.0)])
    assert confusion_matrix(logits, TRUE).shape == (4, 4)
    assert macro_f1(logits, TRUE) == pytest.approx(MACRO_F1, rel=1e-12)


def test_a_class_that_is_never_predicted_counts_as_zero():
    # class 0: TP 1, FP 1, FN 0: 2/3; class 1: 0
    assert macro_f1(np.array([0, 0]), np.array([0, 1])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_column_is_two_classes(shape):
    labels = np.array([0, 1, 1, 0])
    logits = np.array([-2.0, 0.3, -0.1, 0.4]).reshape(shape)  # classes 0 1 0 1
    probabilities = np.array([0.1, 0.6, 0.4, 0.45]).reshape(shape)  # classes 0 1 0 0
    assert class_ids(logits, from_logits=True)[0].tolist() == [0, 1, 0, 1]
    assert accuracy(logits, labels, from_logits=True) == 2 / 4
    assert accuracy(probabilities, labels, from_logits=False) == 3 / 4
    assert confusion_matrix(probabilities, labels, from_logits=False).tolist() == [[2, 0], [1, 1]]
    assert agreement(probabilities, probabilities * 0.9, from_logits=False) == 1.0  # 0.54 is still class 1


def test_one_column_is_not_guessed():
    with pytest.raises(ConfigurationError, match="need 'from_logits'"):
        class_ids(np.array([[0.2], [0.8]]))
    with pytest.raises(ConfigurationError, match="not probabilities.*-2 to 0.4.*from_logits=True"):
        class_ids(np.array([[-2.0], [0.4]]), from_logits=False)


def test_agreement_compares_classes_without_labels():
    other = np.eye(3)[[0, 0, 0, 1, 1, 2, 2, 1]]
    assert agreement(LOGITS, other) == 7 / 8
    assert agreement(LOGITS, PREDICTED) == 1.0


def test_calibration_error_by_hand():
    # Ten bins: confidences 0.6, 0.6 (both in one bin, one of two right), 0.95 (right), 0.75 (wrong)
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.05, 0.95], [0.25, 0.75]])
    labels = np.array([0, 1, 1, 0])
    expected = (2 * abs(0.5 - 0.6) + abs(1 - 0.95) + abs(0 - 0.75)) / 4
    options = {"num_bins": 10}
    error = expected_calibration_error(probabilities, labels, from_logits=False, **options)
    assert error == pytest.approx(expected, rel=1e-9)
    logits = np.log(probabilities)
    assert expected_calibration_error(logits + 7, labels, from_logits=True, **options) == pytest.approx(expected)
    column = logits[:, 1:] - logits[:, :1]
    assert expected_calibration_error(column, labels, from_logits=True, **options) == pytest.approx(expected)
    column = probabilities[:, 1]
    assert expected_calibration_error(column, labels, from_logits=False, **options) == pytest.approx(expected)


def test_calibration_error_is_finite_at_large_logits():
    logits = np.array([[-1000.0, 1000.0], [1000.0, -1000.0]])
    assert expected_calibration_error(logits, np.array([1, 0]), from_logits=True) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy(LOGITS, TRUE[:5]), "Received: 5 labels, 8 predictions"),
        (lambda: accuracy(LOGITS, TRUE + 1), r"Received: 3 in row 6 and 1 more. Expected: integers, 0\.\.2"),
        (lambda: accuracy(LOGITS, TRUE - 2), "Received: -2 in row 0 and 3 more"),
        (lambda: accuracy(LOGITS, TRUE + 0.5), "Invalid class numbers in y. Received: float64 with fractions"),
        (lambda: accuracy(PREDICTED - 1, TRUE), "predicted class is out of range"),
        (lambda: accuracy(LOGITS, np.full((8, 3), 0.5)), "not one-hot"),
        (lambda: accuracy(LOGITS * np.nan, TRUE), "Received: 8 such rows"),
        (lambda: accuracy(np.zeros((0, 3)), TRUE[:0]), "unusable shape"),
        (lambda: accuracy(np.zeros((2, 4, 4, 3)), TRUE[:2]), r"shape \(2,\). Expected: shape \(2, 4, 4\)"),
        (lambda: agreement(LOGITS, LOGITS[:5]), "cannot be compared"),
        (lambda: agreement(LOGITS, LOGITS[:, :2]), "cannot be compared"),
        (lambda: expected_calibration_error(PREDICTED, TRUE, from_logits=False), "Class numbers contain no confidence"),
        (lambda: expected_calibration_error(LOGITS, TRUE, from_logits=False), "not probabilities"),
        (lambda: expected_calibration_error(LOGITS, TRUE, from_logits=True, num_bins=2.5), "'num_bins'"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()
