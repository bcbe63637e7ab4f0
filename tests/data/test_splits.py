import numpy as np
import pytest

from keras_kd.data import open_source
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


ROWS = {
    "ascending": [2, 5, 9],
    "descending": [9, 5, 2],
    "any order": [9, 2, 5],
    "one twice": [4, 1, 4],
    "one": [7],
    "all, backwards": range(1077, -1, -1),
    "unsigned": np.array([9, 2], np.uint8),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_subset_gives_rows_in_the_requested_order(train, rows):
    x, y = train.arrays()
    wanted = np.array(rows, np.int64)
    subset = train.subset(rows, "some")
    np.testing.assert_array_equal(subset.arrays()[0], x[wanted])
    np.testing.assert_array_equal(subset.labels(), y[wanted])
    streamed = list(subset.dataset().as_numpy_iterator())
    np.testing.assert_array_equal([pair[0] for pair in streamed], x[wanted])
    np.testing.assert_array_equal([pair[1] for pair in streamed], y[wanted])
    assert (subset.name, subset.num_examples) == ("some", len(wanted))


def test_subset_of_a_subset(train):
    inner = train.subset([15, 10, 12, 11, 19], "outer").subset([3, 1, 3, 0], "inner")
    np.testing.assert_array_equal(inner.arrays()[0], train.arrays()[0][[11, 10, 11, 15]])


MASK = np.arange(1078) < 3


@pytest.mark.parametrize(
    "indices",
    [[], [-1], [1078], [2**40], [2**70], [0.5], [[1, 2]], [[1], [1, 2]], ["1"], 5, None, {1, 2}, MASK, MASK.tolist()],
    ids=lambda indices: repr(indices)[:20],
)
def test_bad_indices(train, indices):
    with pytest.raises(ConfigurationError, match=r"0\.\.1077"):
        train.subset(indices, "bad")


def test_relabeled_keeps_the_images(train):
    labels = np.arange(train.num_examples)
    other = train.relabeled(labels, "other")
    assert other.records is train.records
    np.testing.assert_array_equal([y for _, y in other.dataset().as_numpy_iterator()], labels)
    np.testing.assert_array_equal(other.subset([7, 3], "few").labels(), [7, 3])
    with pytest.raises(ConfigurationError, match=r"\(1078,\)"):
        train.relabeled(labels[:5], "short")
