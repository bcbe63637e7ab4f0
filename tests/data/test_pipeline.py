import keras
import numpy as np
import pytest

from keras_kd.data import batches, epoch_order, evaluation_batches, open_source, splits, steps_per_epoch
from keras_kd.errors import ConfigurationError


@pytest.fixture(scope="module")
def train():
    """Examples whose only pixel is their own row."""
    train = open_source("digits").train
    return train.subset(range(100), "train").relabelled(np.arange(100), "train")


@pytest.fixture(params=["in memory", "streamed"])
def either(request, train, monkeypatch):
    """The split kept in memory, and streamed in blocks of 16 examples or more."""
    if request.param == "streamed":
        monkeypatch.setattr(splits.ArrayRecords, "fits_in_memory", property(lambda self: False))
        monkeypatch.setattr(splits, "MEMORY_LIMIT_BYTES", 16 * 64 * 4)
    return train


def rows_of(data):
    return [y.tolist() for _, y in data.as_numpy_iterator()]


def test_order_is_a_pure_function_of_seed_and_epoch():
    order = epoch_order(50, seed=3, epoch=7)
    np.random.seed(1)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(epoch_order(50, seed=3, epoch=7), order)
    assert sorted(order) == list(range(50))
    assert (order != epoch_order(50, seed=3, epoch=8)).any()
    assert (order != epoch_order(50, seed=4, epoch=7)).any()


def test_each_epoch_is_a_permutation_and_keeps_its_last_batch(either):
    rows = rows_of(batches(either, 16, seed=0, epochs=3))
    assert [len(batch) for batch in rows] == ([16] * 6 + [4]) * 3
    epochs = [sum(rows[start : start + 7], []) for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(100))


def test_resuming_gives_the_tail_of_a_full_run(either):
    keras.utils.set_random_seed(1)
    full = list(batches(either, 16, seed=5, epochs=5).as_numpy_iterator())
    keras.utils.set_random_seed(2)
    tail = list(batches(either, 16, seed=5, epochs=5, first_epoch=3).as_numpy_iterator())
    assert len(tail) == 14
    for expected, got in zip(full[21:], tail, strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def test_a_dataset_gives_the_same_twice(either):
    data = batches(either, 16, seed=5, epochs=2)
    assert rows_of(data) == rows_of(data)
    assert rows_of(data) != rows_of(batches(either, 16, seed=6, epochs=2))


def test_images_stay_with_their_labels(either):
    x, _ = either.arrays()
    for images, rows in batches(either, 16, seed=0, epochs=2).as_numpy_iterator():
        np.testing.assert_array_equal(images, x[rows])


def test_in_memory_batches_follow_epoch_order(train):
    rows = sum(rows_of(batches(train, 16, seed=9, epochs=3, first_epoch=2)), [])
    assert rows == epoch_order(100, seed=9, epoch=2).tolist()


def test_streamed_blocks_are_mixed_within(train, monkeypatch):
    monkeypatch.setattr(splits.ArrayRecords, "fits_in_memory", property(lambda self: False))
    monkeypatch.setattr(splits, "MEMORY_LIMIT_BYTES", 50 * 64 * 4)
    rows = sum(rows_of(batches(train, 10, seed=0)), [])
    assert sorted(rows[:50]) == list(range(50)) and rows[:50] != list(range(50))
    assert [row - 50 for row in rows[50:]] != rows[:50]


def test_unshuffled_is_the_order_of_the_split(either):
    assert sum(rows_of(batches(either, 30, seed=0, shuffle=False, epochs=2)), []) == list(range(100)) * 2
    assert rows_of(evaluation_batches(either, 60)) == [list(range(60)), list(range(60, 100))]


def test_shapes_dtypes_and_cardinality(either):
    data = batches(either, 16, seed=0, epochs=4, first_epoch=1)
    assert int(data.cardinality()) == 21
    x, y = data.element_spec
    assert (x.shape.as_list(), x.dtype.name) == ([None, 8, 8, 1], "float32")
    assert (y.shape.as_list(), y.dtype.name) == ([None], "int64")


def test_without_labels(either):
    (spec,) = batches(either, 16, seed=0, with_labels=False).element_spec
    assert spec.shape.as_list() == [None, 8, 8, 1]
    assert len(next(iter(evaluation_batches(either, 16, with_labels=False)))) == 1


def test_a_finished_run_has_no_batches(either):
    assert rows_of(batches(either, 16, seed=0, epochs=3, first_epoch=3)) == []


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 100), (64, 2), (100, 1), (101, 1)])
def test_steps_per_epoch(train, batch_size, expected):
    assert steps_per_epoch(train, batch_size) == expected
    assert len(rows_of(batches(train, batch_size, seed=0))) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "1 <= batch_size"),
        ({"batch_size": 1.5}, "Received: 1.5"),
        ({"seed": -1}, "0 <= seed"),
        ({"epochs": 0}, "1 <= epochs"),
        ({"epochs": 3, "first_epoch": 4}, "0 <= first_epoch <= 3"),
    ],
)
def test_bad_settings(train, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        batches(train, **({"batch_size": 16, "seed": 0} | settings))


class Losses(keras.callbacks.Callback):
    """Remembers the loss of each epoch."""

    def __init__(self):
        super().__init__()
        self.by_epoch = {}

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch[epoch] = logs["loss"]


def test_fit_sees_each_epoch_where_it_belongs(train):
    """A resumed run has the losses of the whole one, so `fit` takes the same batches in the same order."""
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    start = model.get_weights()

    def losses(first_epoch):
        seen = Losses()
        steps = steps_per_epoch(train, 16)
        data = batches(train, 16, seed=0, epochs=4, first_epoch=first_epoch)
        model.fit(
            data,
            steps_per_epoch=steps,
            epochs=4,
            initial_epoch=first_epoch,
            callbacks=[seen],
            validation_data=evaluation_batches(train, 50),
            shuffle=False,
            verbose=0,
        )
        return seen.by_epoch

    whole = losses(0)
    model.set_weights(start)
    model.fit(batches(train, 16, seed=0, epochs=2), epochs=1, verbose=0, shuffle=False)
    resumed = losses(2)
    assert sorted(whole) == [0, 1, 2, 3] and sorted(resumed) == [2, 3]
    np.testing.assert_allclose([resumed[2], resumed[3]], [whole[2], whole[3]], rtol=1e-5)
