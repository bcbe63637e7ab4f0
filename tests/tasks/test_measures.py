"""Measures against scikit-learn and float64 NumPy: missing labels, absent classes, a single example."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from keras_kd import tasks
from keras_kd.errors import ConfigurationError

rng = np.random.default_rng(7)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize("name", ["segmentation", "token_classification"])
def test_positions_without_a_label_do_not_count(name):
    shape = (5, 4, 3) if name == "segmentation" else (5, 12)
    labels = rng.integers(-1, 3, shape)
    logits = rng.normal(size=(*shape, 4))  # class 3 never occurs among the labels
    logits[..., 3] -= 9  # and never among the predictions
    task = tasks.get(name)
    found = task.measure(logits, labels, reference=-logits)
    known = labels >= 0
    predicted, true = logits.argmax(-1)[known], labels[known]
    accuracy, first = ("pixel_accuracy", "mean_iou") if name == "segmentation" else ("token_accuracy", "macro_f1")
    expected = oracle.jaccard_score if name == "segmentation" else oracle.f1_score
    assert found[accuracy] == pytest.approx(oracle.accuracy_score(true, predicted), rel=1e-12)
    assert found[first] == pytest.approx(expected(true, predicted, average="macro", labels=[0, 1, 2]), rel=1e-12)
    assert found.confusion.tolist() == oracle.confusion_matrix(true, predicted, labels=range(4)).tolist()
    assert found.agreement == np.mean(logits.argmax(-1) == logits.argmin(-1))
    assert found.num_examples == 5


def test_mean_iou_by_hand():
    true = np.array([[[0, 0], [1, 1]]])
    outputs = np.eye(3)[[[[0, 1], [1, 1]]]]
    # class 0: 1 of 2; class 1: 2 of 3; class 2 is absent from both
    assert tasks.Segmentation().measure(outputs, true)["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    outputs = np.eye(3)[[[0, 2]]]
    assert tasks.TokenClassification().measure(outputs, [[0, 0]])["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_multi_label_with_missing_labels():
    true = rng.integers(-1, 2, (40, 4))
    true[:, 3] = np.where(true[:, 3] == 1, 0, true[:, 3])  # no example has label 3
    true[0] = -1
    logits = rng.normal(size=(40, 4))
    found = tasks.MultiLabel().measure(logits, true, from_logits=True)
    known = true >= 0
    precision = [oracle.average_precision_score(true[known[:, c], c], logits[known[:, c], c]) for c in range(3)]
    assert found["mean_average_precision"] == pytest.approx(np.mean(precision), rel=1e-12)
    hits = ((logits > 0) & (true == 1)).sum()
    wrong = ((logits > 0) & (true == 0)).sum() + ((logits <= 0) & (true == 1)).sum()
    assert found["micro_f1"] == pytest.approx(2 * hits / (2 * hits + wrong), rel=1e-12)
    rows = [
        all((z > 0) == (t == 1) for z, t in zip(*pair, strict=True) if t >= 0)
        for pair in zip(logits, true, strict=True)
    ]
    assert found["exact_match"] == pytest.approx(np.mean(np.array(rows)[known.any(1)]), rel=1e-12)
    probabilities = 1 / (1 + np.exp(-logits))
    assert tasks.MultiLabel().measure(probabilities, true, from_logits=False).values == found.values


def test_average_precision_by_hand():
    scores, true = np.array([[0.9], [0.8], [0.7], [0.6]]), [[1], [0], [1], [0]]
    found = tasks.MultiLabel().measure(scores, true, from_logits=False)
    assert found["mean_average_precision"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


@pytest.mark.parametrize("width", [1, 3])
def test_regression_with_missing_targets(width):
    true = rng.normal(size=(30, width))
    true[rng.random(true.shape) < 0.2] = np.nan
    predicted = rng.normal(size=(30, width))
    found = tasks.Regression().measure(predicted, true[:, 0] if width == 1 else true)
    known = ~np.isnan(true)
    error = (predicted - true)[known]
    assert found["mean_absolute_error"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    columns = [(true[known[:, c], c], predicted[known[:, c], c]) for c in range(width)]
    expected = [1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum() for t, p in columns]
    assert found["r_squared"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert found.agreement is None and found.confusion is None
    assert tasks.Regression().measure(predicted, true, reference=predicted).agreement is None


ONE = {
    "classification": (np.array([[2.0, 1.0]]), [0], {"accuracy": 1, "macro_f1": 1}),
    "multi_label": (np.array([[2.0, -1.0]]), [[1, 0]], {"mean_average_precision": 1, "micro_f1": 1, "exact_match": 1}),
    "regression": (
        np.array([[2.0]]),
        [1.5],
        {"root_mean_squared_error": 0.5, "mean_absolute_error": 0.5, "r_squared": np.nan},
    ),
    "segmentation": (np.array([[[[2.0, 1.0]]]]), [[[1]]], {"mean_iou": 0, "pixel_accuracy": 0}),
    "token_classification": (np.array([[[2.0, 1.0]]]), [[0]], {"token_accuracy": 1, "macro_f1": 1}),
}


@pytest.mark.parametrize("name", ONE)
def test_one_example(name):
    outputs, labels, expected = ONE[name]
    found = tasks.get(name).measure(outputs, labels, from_logits=True)
    assert found.values == pytest.approx(expected, nan_ok=True) and found.num_examples == 1


MISSING = {
    "classification": [-1],
    "multi_label": [[-1, -1]],
    "regression": [np.nan],
    "segmentation": [[[-1]]],
    "token_classification": [[-1]],
}


@pytest.mark.parametrize("name", MISSING)
def test_without_any_label_every_measure_is_undefined(name):
    found = tasks.get(name).measure(ONE[name][0], MISSING[name], from_logits=True)
    assert all(np.isnan(value) for value in found.values.values())


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        ("regression", np.zeros((3, 2)), [1.0, 2.0, 3.0], "one target per output"),
        ("regression", np.full((1, 1), np.nan), [1.0], "NaN or infinity"),
        ("multi_label", np.zeros((3, 2)), np.zeros((3, 3)), "one label per output"),
        ("multi_label", np.full((1, 2), 0.5), [[1, 2]], "Invalid multi-hot labels in y. Received: 2 in row 0"),
        ("segmentation", np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4), int), r"shape \(2, 3, 4\)"),
        ("segmentation", np.zeros((2, 4, 4, 3)), np.zeros((2, 4), int), r"Invalid labels of pixels.*\[n, height"),
        ("token_classification", np.zeros((2, 4, 3)), np.full((2, 4), 3), r"3 in row 0 and 1 more.*0\.\.2, or -1"),
    ],
)
def test_what_does_not_fit_is_named(name, outputs, labels, message):
    with pytest.raises(ConfigurationError, match=message):
        tasks.get(name).measure(outputs, labels, from_logits=True)


def test_multi_label_needs_to_know_logits():
    with pytest.raises(ConfigurationError, match="need 'from_logits'"):
        tasks.MultiLabel().measure(np.zeros((1, 2)), [[1, 0]])


def test_directions_and_titles():
    lower = {m.name for task in tasks.registry.members for m in task.measures if not m.higher_is_better}
    assert lower == {"mean_absolute_error", "root_mean_squared_error"}
    assert {task().name: task().headline.name for task in tasks.registry.members} == {
        "classification": "accuracy",
        "multi_label": "mean_average_precision",
        "regression": "root_mean_squared_error",
        "segmentation": "mean_iou",
        "token_classification": "token_accuracy",
    }
