"""The real TFDS path, offline: the test writes the data sets. Their names must differ from those that TFDS ships."""

import numpy as np
import pytest

from keras_kd.data import calibration_samples, evaluation_batches, open_source
from keras_kd.data.sources import records
from keras_kd.errors import ConfigurationError


def store(name, data_dir, splits, version="1.0.0", **features):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: tf.data.Dataset.from_tensor_slices(arrays) for split, arrays in splits.items()},
        data_dir=data_dir,
        disable_shuffling=True,
    )


def image_and_label(shape=(8, 8, 1)):
    import tensorflow_datasets as tfds

    names = [f"digit_{i}" for i in range(10)]
    return {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=names)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, digit_images):
    directory = tmp_path_factory.mktemp("tfds")
    x, y = digit_images
    train, test = {"image": x[:400], "label": y[:400]}, {"image": x[400:500], "label": y[400:500]}
    store("local_digits", directory, {"train": train, "test": test}, **image_and_label())
    store("local_train_only", directory, {"train": train}, **image_and_label((None, None, 1)))
    store("local_three", directory, {"train": train, "val": test, "test": test}, **image_and_label())
    store("local_validated", directory, {"train": train, "validation": test}, **image_and_label())
    store("local_parts", directory, {"one": train, "two": test}, **image_and_label())
    return directory


def sizes(source):
    return [split.num_examples for split in (source.train, source.validation, source.test)]


def test_split_expressions(data_dir, digit_images):
    x, y = digit_images
    source = open_source(
        "tfds:local_digits",
        train="train[:300]",
        validation="train[75%:]",
        test="test[:40]",
        data_dir=data_dir,
    )
    assert sizes(source) == [300, 100, 40]
    assert (source.input_shape, source.num_classes, source.class_names[3]) == ((8, 8, 1), 10, "digit_3")
    for split, rows in ((source.train, slice(300)), (source.validation, slice(300, 400))):
        np.testing.assert_array_equal(split.arrays()[0], x[rows].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(split.labels(), y[rows])
    np.testing.assert_array_equal([label for _, label in source.test.dataset()], y[400:440])


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("local_digits", {}, [360, 40, 100]),
        ("local_three", {}, [400, 100, 100]),
        ("local_three:1.0.0", {}, [400, 100, 100]),
        ("local_validated", {}, [360, 40, 100]),
        ("local_train_only", {"image_size": 8}, [320, 40, 40]),
        ("local_digits", {"validation": "test[:50%]", "test": "test[50%:]"}, [400, 50, 50]),
        ("local_digits", {"train": "train[:80%]"}, [320, 40, 100]),
        ("local_parts", {"train": "one", "validation": "two[:50]", "test": "two[50:]"}, [400, 50, 50]),
    ],
)
def test_defaults(data_dir, name, settings, expected):
    assert sizes(open_source(f"tfds:{name}", data_dir=data_dir, **settings)) == expected


@pytest.mark.parametrize("rows", [[5, 90, 300], [300, 5, 90], [300, 5, 5, 90, 300], [5, 5, 90]])
def test_subsets_give_rows_in_the_requested_order(data_dir, rows):
    train = open_source("tfds:local_digits", data_dir=data_dir).train
    x, y = train.arrays()
    subset = train.subset(rows, "some")
    np.testing.assert_array_equal(subset.labels(), y[rows])
    streamed = list(subset.dataset().as_numpy_iterator())
    np.testing.assert_array_equal([pair[0] for pair in streamed], x[rows])
    np.testing.assert_array_equal([pair[1] for pair in streamed], y[rows])
    np.testing.assert_array_equal(subset.arrays()[0], x[rows])
    for inner in ([2, 0], [0, 2], [1, 1, 0]):
        chosen = subset.subset(inner, "fewer")
        np.testing.assert_array_equal(chosen.arrays()[0], x[rows][inner])
        np.testing.assert_array_equal(chosen.labels(), y[rows][inner])


def test_a_subset_out_of_order_has_to_fit_into_memory(data_dir, monkeypatch):
    train = open_source("tfds:local_digits", data_dir=data_dir).train
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 100 * 64)
    assert train.subset(range(99, -1, -1), "small").labels().shape == (100,)
    assert train.subset(range(101), "ascending").labels().shape == (101,)
    with pytest.raises(ConfigurationError, match=r"ascending order.*np\.sort"):
        train.subset(range(100, -1, -1), "large")


def test_a_streamed_split_gives_the_same_as_a_small_one(data_dir, monkeypatch):
    source = open_source("tfds:local_digits", data_dir=data_dir)
    x, y = source.train.arrays()
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 100 * 64)
    streamed = open_source("tfds:local_digits", data_dir=data_dir).train
    parts = list(evaluation_batches(streamed, 50).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), y)
    assert "stored" not in vars(streamed.records)


def test_calibration_works_on_a_stream(data_dir):
    train = open_source("tfds:local_digits", data_dir=data_dir).train
    samples = calibration_samples(train, 20)
    assert samples.shape == (20, 8, 8, 1)
    assert "stored" not in vars(train.records)


def test_images_are_resized(data_dir):
    source = open_source("tfds:local_train_only", data_dir=data_dir, image_size=(6, 4))
    assert source.input_shape == (6, 4, 1)
    assert source.test.arrays()[0].shape == (40, 6, 4, 1)
    with pytest.raises(ConfigurationError, match="different sizes.*image_size"):
        open_source("tfds:local_train_only", data_dir=data_dir)


def test_the_fingerprint_follows_the_splits(data_dir):
    first = open_source("tfds:local_digits", data_dir=data_dir).fingerprint
    assert open_source("tfds:local_digits", data_dir=str(data_dir), seed=3).fingerprint == first
    other = open_source("tfds:local_digits", data_dir=data_dir, train="train[:80%]")
    assert other.fingerprint != first


def test_the_fingerprint_follows_the_stored_images(data_dir, tmp_path, digit_images):
    """The number of stored bytes distinguishes them: PNGs of different images differ in size."""
    x, y = digit_images
    train, test = {"image": x[500:900], "label": y[:400]}, {"image": x[400:500], "label": y[400:500]}
    store("local_digits", tmp_path, {"train": train, "test": test}, **image_and_label())
    first, other = (open_source("tfds:local_digits", data_dir=place) for place in (data_dir, tmp_path))
    assert sizes(first) == sizes(other) and first.fingerprint != other.fingerprint


def test_a_prepared_data_set_is_used_in_any_version(tmp_path, digit_images):
    # TFDS ships its own cifar10, version 3, and would download it.
    x, y = digit_images
    part = {"image": x[:100], "label": y[:100]}
    store("cifar10", tmp_path, {"train": part, "test": part}, **image_and_label())
    assert sizes(open_source("tfds:cifar10", data_dir=tmp_path)) == [90, 10, 100]


def test_a_failed_download_explains_what_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **kwargs):
        raise OSError("no network\nand a long story")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ConfigurationError, match="could not download 'cifar10': no network Received") as caught:
        open_source("tfds:cifar10", data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value) and "pass the folder above it as data_dir" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("tfds:local_nothing", {}, "cannot open this data set: Dataset local_nothing not found.*catalog"),
        ("tfds:bad name", {}, "cannot open this data set"),
        ("tfds:local_digits", {"train": "training"}, "Unknown split 'training'.*of train, test"),
        ("tfds:local_digits", {"train": "train[a:]"}, "Invalid 'train' split of 'local_digits'"),
        ("tfds:local_digits", {"train": "train[:0]"}, "is empty"),
        ("tfds:local_digits", {"train": "train"}, "'train' and 'validation' share examples"),
        ("tfds:local_digits", {"validation": "train[90%:]"}, "share examples.*each with its own slice"),
        ("tfds:local_digits", {"validation": "test"}, "'validation' and 'test' share examples"),
        ("tfds:local_digits", {"validation": 0.1}, "a split expression"),
        ("tfds:local_digits", {"image_size": -1}, "in pixels"),
        ("tfds:local_parts", {}, "no 'train' split.*one, two"),
    ],
)
def test_bad_settings(data_dir, source, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(source, data_dir=data_dir, **settings)


def test_data_sets_without_images_or_classes(tmp_path):
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(num_classes=2)
    store(
        "local_text",
        tmp_path,
        {"train": {"text": ["a", "b"], "label": [0, 1]}},
        text=tfds.features.Text(),
        label=label,
    )
    with pytest.raises(ConfigurationError, match="label: ClassLabel, text: Text.*one Image and one ClassLabel"):
        open_source("tfds:local_text", data_dir=tmp_path)


def test_supervised_keys_choose_among_images(data_dir):
    from types import SimpleNamespace

    import tensorflow_datasets as tfds

    from keras_kd.data.sources.tfds import _tfds_keys

    image, label = tfds.features.Image(), tfds.features.ClassLabel(num_classes=2)
    features = tfds.features.FeaturesDict({"image": image, "mask": image, "label": label})
    info = SimpleNamespace(features=features, supervised_keys=("image", "label"))
    assert _tfds_keys("set", info) == ("image", "label")
    info.supervised_keys = None
    with pytest.raises(ConfigurationError, match="image: Image, label: ClassLabel, mask: Image"):
        _tfds_keys("set", info)
