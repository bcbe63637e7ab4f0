"""One pass over a split, in its stored order."""

import numpy as np
import pytest

from keras_kd.data import evaluation_batches, open_source, steps_per_epoch
from keras_kd.data.sources import records
from keras_kd.errors import ConfigurationError


@pytest.fixture(params=["in memory", "streamed"])
def split(request, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(records.ArrayRecords, "fits_in_memory", property(lambda self: False))
    return open_source("digits").train.subset(range(100), "train").relabeled(np.arange(100), "train")


def test_the_order_of_the_split(split):
    data = evaluation_batches(split, 60)
    assert [y.tolist() for _, y in data.as_numpy_iterator()] == [list(range(60)), list(range(60, 100))]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in data.as_numpy_iterator()]), split.arrays()[0])


def test_shapes_dtypes_and_cardinality(split):
    data = evaluation_batches(split, 16)
    assert int(data.cardinality()) == 7
    x, y = data.element_spec
    assert (x.shape.as_list(), x.dtype.name) == ([None, 8, 8, 1], "float32")
    assert (y.shape.as_list(), y.dtype.name) == ([None], "int64")


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 100), (64, 2), (100, 1), (101, 1)])
def test_steps_per_epoch(split, batch_size, expected):
    assert steps_per_epoch(split, batch_size) == expected


@pytest.mark.parametrize(("batch_size", "message"), [(0, "1 <= batch_size"), (1.5, "Received: 1.5")])
def test_bad_batch_size(split, batch_size, message):
    with pytest.raises(ConfigurationError, match=message):
        evaluation_batches(split, batch_size)
