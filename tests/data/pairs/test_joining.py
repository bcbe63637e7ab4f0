"""Two sources joined to pairs: their order, their labels, and the check that both have the same examples."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_kd.data import Flip, Pipeline, few_labels, open_source, pair
from keras_kd.data.sources import folders, records
from keras_kd.errors import ConfigurationError

X, Y = np.arange(24.0).reshape(12, 2), np.arange(12) % 3


def rows(source):
    return Pipeline(source, shuffle=False, batch_size=12).batch(np.arange(12))


def test_arrays_are_joined_by_row():
    x, y = rows(pair(X, (X + 100, Y)))
    np.testing.assert_array_equal(x["teacher"], X)
    np.testing.assert_array_equal(x["student"], X + 100)
    np.testing.assert_array_equal(y, Y)
    pipeline = Pipeline(pair((X,), (X + 100, Y)), batch_size=5)
    for x, y in pipeline.epoch(1):
        np.testing.assert_array_equal(x["student"], x["teacher"] + 100)
        np.testing.assert_array_equal(y, (x["teacher"][:, 0] / 2) % 3)


def test_labels_and_weights_are_the_student_s_or_else_the_teacher_s():
    weights = np.linspace(0, 1, 12)
    assert len(rows(pair(X, X))) == 1
    np.testing.assert_array_equal(rows(pair((X, Y, weights), X))[1], Y)
    np.testing.assert_allclose(rows(pair((X, Y, weights), X))[2], weights)
    assert len(rows(pair((X, Y, weights), (X, Y)))) == 2
    partly = np.where(Y == 1, -1, Y)
    np.testing.assert_array_equal(rows(pair((X, Y), (X, partly)))[1], partly)
    np.testing.assert_array_equal(rows(pair((X, partly), (X, Y)))[1], Y)


def test_unequal_lengths_are_named():
    with pytest.raises(ConfigurationError, match="12 examples for the teacher, 11 for the student"):
        pair(X, (X[:11], Y[:11]))


def test_other_labels_are_other_examples():
    with pytest.raises(ConfigurationError, match="8 rows, such as row 0: 0 for the teacher, 2 for the student"):
        pair((X, Y), (X, Y[::-1]))
    with pytest.raises(ConfigurationError, match="different shapes"):
        pair((X, Y), (X, np.eye(3)[Y]))
    values = Y - 1.0
    with pytest.raises(ConfigurationError, match="different labels"):
        pair((X, values), (X, values[::-1]))
    missing = np.where(Y == 1, np.nan, Y)
    assert pair((X, missing), (X, Y.astype(float)), task="regression").num_examples == 12


def test_the_fingerprint_is_that_of_both_sides():
    prints = [
        pair(X, X).fingerprint,
        pair(X + 1, X).fingerprint,
        pair(X, X + 1).fingerprint,
        pair(X, X[::-1]).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert pair(X, (X, Y)).fingerprint == prints[0]


# Names.


@pytest.fixture
def write(tmp_path):
    """Writes a folder of images, the same picture in color or in gray at half the size."""

    def write(folder, names, *, gray=False):
        for number, name in enumerate(names):
            image = Image.fromarray(np.full((8, 8, 3), 10 * number, "uint8"))
            path = tmp_path / folder / f"{name}.{'bmp' if gray else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            (image.convert("L").resize((4, 4)) if gray else image).save(path)
        return open_source(f"folder:{tmp_path / folder}")

    return write


NAMES = [f"{animal}/{number}" for number in range(10) for animal in ("cat", "dog")]


def test_folders_are_joined_by_their_file_names(write):
    colour, gray = write("colour", NAMES), write("gray", NAMES, gray=True)
    for part in ("train", "validation", "test"):
        joined = pair(getattr(colour, part), getattr(gray, part))
        (x, _), *_ = Pipeline(joined, augment=Flip(), batch_size=50).epoch(0)
        np.testing.assert_array_equal(x["teacher"][:, 0, 0, 0], x["student"][:, 0, 0, 0])
        assert x["student"].shape[1:] == (4, 4, 1) and len(joined.names) == len(x["student"])
    assert pair(colour, gray).num_examples == colour.train.num_examples
    with pytest.raises(ConfigurationError, match="different orders.*'(cat|dog)/.*Sort both by name"):
        pair(colour.train, gray.train.subset(np.arange(16)[::-1], "reversed"))
    partly = few_labels(gray.train, 2, seed=0)[1]
    assert (pair(colour.train, partly).labels() == -1).sum() == 14


def test_folders_with_other_files_are_refused(write):
    other = write("gray", [*NAMES[:-1], "dog/else"], gray=True)
    with pytest.raises(ConfigurationError, match="different examples.*Remove the examples"):
        pair(write("colour", NAMES), other)


def test_npz_files_are_joined_by_names(tmp_path):
    x, y = np.random.default_rng(0).random((30, 4), "float32"), np.arange(30) % 3
    names = np.array([f"clip {n}" for n in range(30)])

    def opened(file, **arrays):
        np.savez(tmp_path / file, **arrays)
        return open_source(f"npz:{tmp_path / file}")

    one = opened("a.npz", x_train=x, y_train=y, names_train=names, x_test=x, y_test=y)
    other = opened("b.npz", x_train=x + 1, y_train=y, names_train=names, x_test=x, y_test=y)
    joined = pair(one.train, other.train)
    np.testing.assert_allclose(joined.fetch(np.arange(27))[0]["student"], joined.fetch(np.arange(27))[0]["teacher"] + 1)
    assert set(joined.names.tolist()) < set(names.tolist()) and one.test.records.names is None
    moved = opened("c.npz", x_train=x, y_train=y, names_train=np.roll(names, 3), x_test=x, y_test=y)
    with pytest.raises(ConfigurationError, match="different (orders|examples).*27 rows"):
        pair(one.train, moved.train)
    for bad in (names[:29], np.full(30, "same"), np.arange(30.0)):
        with pytest.raises(ConfigurationError, match="'names_train' in .* does not name the examples"):
            opened("d.npz", x_train=x, y_train=y, names_train=bad)


def test_tfds_ids_are_names():
    def dataset(order):
        names = np.array([f"clips-train.tfrecord-00000-of-00001__{n}" for n in range(12)])
        return tf.data.Dataset.from_tensor_slices({"image": X[order], "label": Y[order], "tfds_id": names[order]})

    one, other = (dataset(np.random.default_rng(seed).permutation(12)) for seed in (0, 1))
    x, _ = rows(pair(one, other))
    np.testing.assert_array_equal(x["teacher"], x["student"])
    with pytest.raises(ConfigurationError, match="different lengths|different examples"):
        pair(one, other.skip(1))


# Sources on disk.


def test_streamed_sources_are_joined_by_row(monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    long = np.arange(600.0).reshape(300, 2)
    one = tf.data.Dataset.from_tensor_slices(long)
    other = tf.data.Dataset.from_tensor_slices((long + 1, np.arange(300)))
    for teacher, student in ((one, other), (long, other), (one, (long + 1, np.arange(300)))):
        joined = pair(teacher, student)
        assert not joined.random_access
        ids = [ids for ids, _ in joined.stream()]
        np.testing.assert_array_equal(np.concatenate(ids), np.arange(300))
        for x, y in Pipeline(joined, batch_size=32, augment="gaussian_noise").epoch(0):
            np.testing.assert_allclose(x["student"], x["teacher"] + 1, rtol=1e-5)
            np.testing.assert_allclose(x["student"][:, 0], 2 * y + 1, atol=2)


def test_streamed_folders_are_compared_without_their_images(write, monkeypatch):
    colour, gray = write("colour", NAMES), write("gray", NAMES, gray=True)
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "decode_image", None)
        partly = few_labels(gray.train, 2, seed=0)[1]
        joined = pair(colour.train, partly)
        assert not joined.random_access and (joined.labels() == -1).sum() == 14
        np.testing.assert_array_equal(joined.names, colour.train.records.names)
        with pytest.raises(ConfigurationError, match="different orders"):
            pair(colour.train, gray.train.subset(np.arange(16)[::-1], "reversed"))
    ids, (x, y) = next(joined.stream())
    np.testing.assert_array_equal(x["teacher"][:, 0, 0, 0], x["student"][:, 0, 0, 0])
    np.testing.assert_array_equal(y, partly.labels()[ids])


def test_an_unsupported_source_is_refused():
    with pytest.raises(ConfigurationError, match="Unsupported data source"):
        pair(X, 5)
