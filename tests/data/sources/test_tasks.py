"""An .npz file for each task: detecting the task, reading and splitting; token ids stay integers throughout."""

import numpy as np
import pytest

from keras_kd import tasks
from keras_kd.data import Pipeline, calibration_samples, evaluation_batches, few_labels, open_source
from keras_kd.errors import ConfigurationError

rng = np.random.default_rng(5)
N = 60
IMAGES = rng.integers(0, 256, (N, 6, 5, 3)).astype(np.uint8)
TABLE = rng.normal(size=(N, 7)).astype(np.float32)
IDS = rng.integers(1, 11, (N, 9))
IDS[0, 0] = 11
TAGS = np.where(np.arange(9) < rng.integers(3, 10, (N, 1)), rng.integers(0, 4, (N, 9)), -1)
HOT = rng.integers(0, 2, (N, 3))
HOT[:3] = [[1, 1, 0], [0, 0, 0], [-1, 1, 0]]
TARGETS = rng.normal(size=(N, 2))
TARGETS[4, 1] = np.nan
MASKS = rng.integers(-1, 3, (N, 6, 5)).astype(np.int16)

SOURCES = {
    "classification": ({"x": TABLE, "y": np.arange(N) % 3}, (), 3, "examples"),
    "multi_label": ({"x": IMAGES, "y": HOT}, (3,), 3, "images"),
    "regression": ({"x": TABLE, "y": TARGETS}, (2,), 2, "examples"),
    "segmentation": ({"x": IMAGES, "y": MASKS}, (6, 5), 3, "images"),
    "token_classification": ({"x": IDS, "y": TAGS}, (9,), 4, "sentences"),
}


@pytest.fixture(params=SOURCES)
def opened(request, write_npz):
    arrays, label_shape, num_outputs, unit = SOURCES[request.param]
    return request.param, open_source(write_npz(**arrays)), arrays, label_shape, num_outputs, unit


def test_the_task_is_found_and_the_labels_are_whole(opened):
    name, source, arrays, label_shape, num_outputs, unit = opened
    assert (source.task.name, source.unit, source.num_classes) == (name, unit, num_outputs)
    assert source.found and source.label_shape == label_shape
    assert [split.num_examples for split in (source.train, source.validation, source.test)] == [48, 6, 6]
    pairs = [split.arrays() for split in (source.train, source.validation, source.test)]
    x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
    if np.issubdtype(arrays["x"].dtype, np.floating):  # rows are identified by their inputs
        order = [int(np.flatnonzero((arrays["x"] == row).all(1))[0]) for row in x]
        np.testing.assert_array_equal(y, source.task.read(arrays["y"])[order])
    expected = np.sort(source.task.read(arrays["y"]).reshape(N, -1), axis=0)
    np.testing.assert_array_equal(np.sort(y.reshape(N, -1), axis=0), expected)


def test_every_way_out_has_the_same_dtypes_and_values(opened):
    name, source, *_ = opened
    dtype = np.int32 if name == "token_classification" else np.float32
    x, y = source.train.arrays()
    assert x.dtype == dtype and calibration_samples(source.train, 10).dtype == dtype
    batches = list(evaluation_batches(source.train, 16).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), x)
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), y)
    pairs = list(source.train.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([pair[1] for pair in pairs]), y)
    pipeline = Pipeline(source.train, batch_size=16, shuffle=False)
    batch = next(iter(pipeline.get_tf_dataset().as_numpy_iterator()))
    np.testing.assert_array_equal(batch[0], x[:16])
    np.testing.assert_array_equal(batch[1], y[:16])
    assert batch[0].dtype == batches[0][0].dtype == pairs[0][0].dtype == dtype


def test_few_labels_are_marked_as_the_task_marks_them(opened):
    _, source, *_ = opened
    labeled, partly = few_labels(source.train, 20, seed=1)
    has_label = source.task.has_label(partly.labels())
    assert labeled.num_examples == 20 == has_label.sum()
    np.testing.assert_array_equal(labeled.labels(), partly.labels()[has_label])
    np.testing.assert_array_equal(partly.labels()[has_label], source.train.labels()[has_label])


def test_vocabulary_size_counts_all_splits(write_npz):
    assert open_source(write_npz(x=IDS, y=TAGS)).vocabulary_size == 12
    assert open_source(write_npz(x=TABLE, y=TARGETS)).vocabulary_size is None


def test_sentences_of_one_class_each(write_npz):
    source = open_source(write_npz(x=IDS, y=np.arange(N) % 2))
    assert (source.task.name, source.unit) == ("classification", "sentences")
    assert source.train.arrays()[0].dtype == np.int32


def test_the_task_can_be_named_with_settings(write_npz):
    masks = np.where(MASKS < 0, 255, MASKS).astype(np.uint8)
    settings = {"name": "segmentation", "ignore_class": 255}
    source = open_source(write_npz(x=IMAGES, y=masks), task=settings)
    assert source.found is None and source.num_classes == 3
    assert source.train.labels().min() == -1 and source.train.labels().max() == 2
    found = open_source(write_npz(x=IMAGES, y=masks))
    assert found.num_classes == 256 and found.fingerprint != source.fingerprint


def test_whole_targets_are_a_regression_when_they_are_called_so(write_npz):
    source = open_source(write_npz(x=TABLE, y=np.arange(N)), task="regression")
    assert source.task == tasks.Regression() and source.class_names == ("0",)
    with pytest.raises(ConfigurationError, match="more than one task"):
        open_source(write_npz(x=TABLE, y=np.arange(N) * 1.0))


def test_a_regression_is_cut_with_the_same_range_in_each_part(write_npz):
    source = open_source(write_npz(x=TABLE, y=np.linspace(0.5, 9.7, N)), test=0.5)
    deciles = np.floor(source.test.labels()[:, 0]).astype(int)
    assert source.test.num_examples == 30 and (np.bincount(deciles, minlength=10)[1:9] >= 2).all()


@pytest.mark.parametrize(
    ("arrays", "task", "message"),
    [
        ({"x": IMAGES, "y": MASKS[:, 0, 0]}, "segmentation", r"Invalid labels of pixels.*\(60,\)"),
        ({"x": IDS, "y": TAGS[..., None] == np.arange(4)}, "token_classification", r"y\.argmax\(-1\)"),
        ({"x": TABLE, "y": TARGETS}, "classification", "Invalid class numbers|Invalid shape of labels"),
        ({"x": TABLE, "y": HOT + 1}, "multi_label", "Invalid multi-hot labels in .*Received: 2"),
        ({"x": TABLE, "y": np.array(["a"] * N)}, "regression", "Invalid regression targets in 'y'.*<U1"),
        ({"x": TABLE, "y": np.full(N, np.inf)}, "regression", "not finite in float32"),
        ({"x": IMAGES, "y": np.full_like(MASKS, -1)}, "segmentation", "has no label"),
        ({"x": IMAGES, "y": HOT, "class_names": np.array(["a", "b"])}, "multi_label", "3 names, one per output"),
        ({"x": TABLE, "y": TARGETS}, "ranking", "Unknown task. Received: 'ranking'"),
        (
            {"x_train": IMAGES, "y_train": MASKS, "x_test": IMAGES, "y_test": MASKS[:, :3]},
            None,
            "different shapes or dtypes",
        ),
    ],
)
def test_what_does_not_fit_is_named(write_npz, arrays, task, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(write_npz(**arrays), task=task)


def test_other_sources_are_classifications():
    assert open_source("digits", task="classification").fingerprint == open_source("digits").fingerprint
    with pytest.raises(
        ConfigurationError,
        match="'digits' has one class per example, which other tasks do not support. Received: task 'regression'",
    ):
        open_source("digits", task="regression")
