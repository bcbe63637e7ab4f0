import numpy as np
import pytest

from keras_kd.data import open_source
from keras_kd.data.splits import Scaling
from keras_kd.errors import ConfigurationError


@pytest.fixture(scope="module")
def train():
    return open_source("digits").train


def test_dataset_and_arrays_are_the_same_examples(train):
    x, y = train.arrays()
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    pairs = list(train.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([pair[0] for pair in pairs]), x)
    np.testing.assert_array_equal([pair[1] for pair in pairs], y)
    assert int(train.dataset().cardinality()) == train.num_examples == len(pairs)
    spec = train.dataset().element_spec
    assert spec[0].shape == (8, 8, 1) and spec[0].dtype == "float32" and spec[1].dtype == "int64"


def test_subset_keeps_the_order_of_the_split(train):
    x, y = train.arrays()
    subset = train.subset([9, 2, 5], "some")
    np.testing.assert_array_equal(subset.arrays()[0], x[[2, 5, 9]])
    np.testing.assert_array_equal(subset.labels(), y[[2, 5, 9]])
    assert (subset.name, subset.num_examples) == ("some", 3)


def test_subset_of_a_subset(train):
    inner = train.subset(range(10, 20), "outer").subset([1, 3], "inner")
    np.testing.assert_array_equal(inner.arrays()[0], train.arrays()[0][[11, 13]])


def test_subset_repeats_what_is_named_twice(train):
    np.testing.assert_array_equal(train.subset([4, 1, 4], "twice").arrays()[0], train.arrays()[0][[1, 4, 4]])


@pytest.mark.parametrize("indices", [[], [-1], [1078], [0.5], [[1, 2]]])
def test_bad_indices(train, indices):
    with pytest.raises(ConfigurationError, match=r"0\.\.1077"):
        train.subset(indices, "bad")


def test_relabelled_keeps_the_images(train):
    labels = np.arange(train.num_examples)
    other = train.relabelled(labels, "other")
    assert other.records is train.records
    np.testing.assert_array_equal([y for _, y in other.dataset().as_numpy_iterator()], labels)
    np.testing.assert_array_equal(other.subset([7, 3], "few").labels(), [3, 7])
    with pytest.raises(ConfigurationError, match=r"\(1078,\)"):
        train.relabelled(labels[:5], "short")


def test_scaling_is_the_same_in_numpy_and_tensorflow():
    import tensorflow as tf

    stored = np.arange(256, dtype=np.uint8)
    scaling = Scaling.to_range(255, (-1.0, 1.0))
    np.testing.assert_array_equal(scaling(stored), scaling(tf.constant(stored)).numpy())
    np.testing.assert_allclose(scaling(stored), stored / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(Scaling.to_range(255, (0.0, 1.0))(stored), stored.astype("float32") / 255)
