"""How each task is detected, reads labels, and checks a model's output; and how a task is added."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_kd import tasks
from keras_kd.errors import ConfigurationError
from keras_kd.tasks import Inputs, tensors
from keras_kd.tasks.labels import class_numbers

IMAGES = Inputs((4, 8, 8, 1), np.dtype("uint8"))
TOKENS = Inputs((4, 3), np.dtype("int64"))
TABLE = Inputs((4, 3), np.dtype("float32"))
TAGS = np.array([[0, 2, -1], [1, 0, 0], [2, 2, -1], [0, 1, 2]])


@pytest.mark.parametrize(
    ("inputs", "labels", "expected"),
    [
        (IMAGES, np.array([0, 1, 2, 1]), "classification"),
        (IMAGES, np.array([[0], [1], [2], [1]]), "classification"),
        (TOKENS, np.array([0, 1, 2, 1]), "classification"),
        (TABLE, np.eye(3, dtype=int)[[0, 1, 2, 1]], "classification"),
        (TABLE, np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, -1]]), "multi_label"),
        (IMAGES, np.array([[True, True], [False, True], [False, False], [True, False]]), "multi_label"),
        (TABLE, np.array([0.5, 1.0, np.nan, 2.0]), "regression"),
        (TABLE, np.array([[0.5, 1.0]] * 4), "regression"),
        (IMAGES, np.zeros((4, 8, 8), np.uint8), "segmentation"),
        (IMAGES, np.zeros((4, 8, 8, 1), np.int32), "segmentation"),
        (TOKENS, TAGS, "token_classification"),
    ],
)
def test_the_task_is_found(inputs, labels, expected):
    task, reason = tasks.find(inputs, labels)
    assert task.name == expected and reason


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (TABLE, np.array([1.0, 2.0, 0.0, 1.0]), "more than one task.*classification.*regression"),
        (TABLE, np.eye(3)[[0, 1, 2, 1]], "classification.*regression"),
        (TABLE, np.array([[1.0, 1.0, 0.0]] * 4), r"multi_label.*regression"),
        (TOKENS, np.array([[1, 1, 0]] * 4), r"multi_label.*token_classification.*task:"),
        (TABLE, np.array([[1, 2, 0]] * 4), "No task fits"),
        (IMAGES, np.zeros((4, 8, 8, 3)), "No task fits"),
        (TABLE, np.array(["a"] * 4), "No task fits.*<U1"),
    ],
)
def test_what_could_be_two_tasks_or_none_is_refused(inputs, labels, message):
    with pytest.raises(ConfigurationError, match=message):
        tasks.find(inputs, labels)


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1]], "Rows of different lengths in labels. Received: a list of rows.*Pad them"),
        (3, r"Invalid labels in labels. Received: int 3.*one label per example"),
        (None, "Received: NoneType None"),
    ],
)
def test_labels_that_are_not_an_array_are_refused(name, labels, message):
    with pytest.raises(ConfigurationError, match=message):
        tasks.get(name).read(labels, what="labels")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, np.nan]), r"float64 with NaN.*integers or one-hot rows.*Mark missing labels by -1"),
        (np.array([0.5, 1.0]), "float64 with fractions"),
        (np.array(["cat", "dog"]), r"dtype <U3.*np.unique\(y, return_inverse=True\)"),
    ],
)
def test_labels_that_are_not_classes_are_explained(labels, message):
    with pytest.raises(ConfigurationError, match=message):
        tasks.get("classification").read(labels)


FORMS = {
    "classification": ([[0, 1], [1, 0], [0, 0]], [1, 0, -1], np.int64),
    "multi_label": ([[0, 1], [1, -1], [0, 0]], [[0, 1], [1, -1], [0, 0]], np.float32),
    "regression": ([1, np.nan, 3], [[1], [np.nan], [3]], np.float32),
    "segmentation": ([[[0, 1]], [[255, 1]]], [[[0, 1]], [[-1, 1]]], np.int32),
    "token_classification": ([[0, -100], [2, 1]], [[0, -1], [2, 1]], np.int32),
}
IGNORED = {"segmentation": 255, "token_classification": -100}


def task_named(name):
    return tasks.get({"name": name, **({"ignore_class": IGNORED[name]} if name in IGNORED else {})})


@pytest.mark.parametrize("name", FORMS)
def test_labels_are_read_into_one_form(name):
    given, expected, dtype = FORMS[name]
    task = task_named(name)
    found = task.read(np.array(given))
    np.testing.assert_array_equal(found, np.array(expected))
    assert found.dtype == dtype
    np.testing.assert_array_equal(task.read(found), found)  # reading is idempotent
    gone = task.unlabeled(found)
    assert gone.shape == found.shape and not task.has_label(gone).any()
    assert task.has_label(found).tolist() == [
        i != {"classification": 2, "regression": 1}.get(name) for i in range(len(found))
    ]


def test_wide_numbers_do_not_wrap_around():
    with pytest.raises(ConfigurationError, match="18446744073709551615 in row 1"):
        class_numbers(np.array([0, 2**64 - 1], np.uint64))


@pytest.mark.parametrize("name", FORMS)
def test_the_reader_for_tensors_agrees(name):
    """Class numbers, one-hot rows and multi-hot rows mean the same inside a step."""
    if name == "regression":
        return
    labels = task_named(name).read(np.array(FORMS[name][0]))
    if name == "multi_label":
        values, known = tensors.targets_of(
            keras.ops.convert_to_tensor(labels), keras.ops.zeros(labels.shape), "sigmoid"
        )
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(known), labels != -1)
        return
    logits = keras.ops.zeros((*labels.shape, 3))
    values, known = tensors.targets_of(keras.ops.convert_to_tensor(labels), logits, "softmax")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(values), labels[..., None] == np.arange(3))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(known)[..., 0], labels != -1)
    found = keras.ops.convert_to_numpy(tensors.has_label(labels, -1))
    np.testing.assert_array_equal(found, labels != -1)
    one_hot = (labels[..., None] == np.arange(3)).astype("float32")
    np.testing.assert_array_equal(tensors.class_indices(one_hot, labels.ndim), labels)
    np.testing.assert_array_equal(class_numbers(one_hot, labels.shape, 3), labels)


@pytest.mark.parametrize(
    ("name", "label_shape", "fits", "not_fits"),
    [
        ("classification", (), (None, 3), [(None, 4), (None, 8, 3)]),
        ("multi_label", (3,), (None, 3), [(None, 1)]),
        ("regression", (3,), (None, 3), [(None, 1), (None, 3, 1)]),
        ("segmentation", (8, 6), (None, 8, 6, 3), [(None, 3), (None, 4, 3, 3), (None, 8, 6, 1)]),
        ("token_classification", (7,), (None, None, 3), [(None, 3), (None, 6, 3)]),
    ],
)
def test_the_output_of_a_model_is_checked(name, label_shape, fits, not_fits):
    task = tasks.get(name)
    task.check_output(fits, task.activations[0], label_shape, 3)
    for shape in not_fits:
        with pytest.raises(ConfigurationError, match=f"student's outputs do not fit the task '{name}'"):
            task.check_output(shape, "linear", label_shape, 3, role="student")
    wrong = "sigmoid" if task.has_classes or name == "regression" else "softmax"
    with pytest.raises(ConfigurationError, match=f"last activation.*Received: {wrong}. Expected: linear"):
        task.check_output(fits, wrong, label_shape, 3)


def test_words():
    words = {name: tasks.get(name).words(IMAGES) for name in FORMS}
    assert words == {**dict.fromkeys(FORMS, "images"), "token_classification": "sentences"}
    assert tasks.Classification().words(TOKENS) == "sentences"
    assert tasks.Classification().words(TABLE) == "examples"


def test_mixed_labels():
    share = np.array([0.75, 0.5], np.float32)
    mixed = tasks.Classification().mixed(np.array([0, 1]), np.array([1, -1]), share, 2)
    np.testing.assert_array_equal(mixed, [[0.75, 0.25], [0, 0]])
    one, other = np.array([[1, 0], [1, -1]], np.float32), np.array([[0, 0], [0, 1]], np.float32)
    mixed = tasks.MultiLabel().mixed(one, other, share, 2)
    np.testing.assert_array_equal(mixed, [[0.75, 0], [0.5, -1]])  # all zeros differ from a missing label
    mixed = tasks.Regression().mixed(np.array([[4.0], [np.nan]]), np.array([[0.0], [1.0]]), share, 1)
    np.testing.assert_array_equal(mixed, [[3], [np.nan]])
    with pytest.raises(ConfigurationError, match="task .segmentation. cannot be averaged"):
        tasks.Segmentation().mixed(None, None, None, 2)


def test_adding_a_task_is_one_class(monkeypatch):
    monkeypatch.setattr(tasks.registry, "_members", dict(tasks.registry._members))

    @tasks.registry.register
    @dataclasses.dataclass(frozen=True)
    class Counting(tasks.Regression):
        """Regression on counts, detected by complex labels."""

        @classmethod
        def found_in(cls, inputs, labels):
            return "complex numbers" if labels.dtype.kind == "c" else None

    assert tasks.find(TABLE, np.zeros(4, complex))[0] == Counting() == tasks.get("counting")
    assert tasks.get("counting").measure(np.array([[2.0]]), [1.5])["mean_absolute_error"] == 0.5
