import numpy as np
import pytest

from keras_kd.data.sources.records import ArrayRecords, Scaling
from keras_kd.data.stratify import complete_splits, stratified_choice
from keras_kd.errors import ConfigurationError

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
NO_FRACTIONS = {"train": None, "validation": None, "test": None}


def records(labels):
    labels = np.asarray(labels)
    return ArrayRecords(lambda: np.zeros((len(labels), 2)), labels, shape=(2,), dtype=np.float32)


def complete(parts, **fractions):
    return complete_splits(parts, NO_FRACTIONS | fractions, ("a", "b", "c"), Scaling(), seed=0)


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(10, [6, 3, 1]), (100, [60, 30, 10]), (5, [3, 1, 1]), (3, [1, 1, 1])]
)
def test_each_class_keeps_its_share(num_rows, expected):
    rows = stratified_choice(LABELS, num_rows, seed=3)
    assert np.bincount(LABELS[rows]).tolist() == expected
    assert (np.diff(rows) > 0).all()


def test_rows_are_the_same_on_every_machine():
    # RandomState(0).permutation(4) is [2 3 1 0] and the next one [0 2 1 3]: NumPy has frozen this generator.
    assert stratified_choice(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 4, seed=0).tolist() == [2, 3, 4, 6]


def test_the_seed_changes_the_rows():
    assert stratified_choice(LABELS, 10, 0).tolist() != stratified_choice(LABELS, 10, 1).tolist()


def test_missing_splits_are_cut_from_train():
    splits = complete({"train": records(LABELS)}, validation=0.2)
    counts = {name: np.bincount(split.labels()).tolist() for name, split in splits.items()}
    assert counts == {"train": [42, 21, 7], "validation": [12, 6, 2], "test": [6, 3, 1]}


def test_train_can_be_less_than_the_rest():
    splits = complete({"train": records(LABELS)}, train=0.5, validation=0.2, test=0.2)
    assert {name: split.num_examples for name, split in splits.items()} == {
        "train": 50,
        "validation": 20,
        "test": 20,
    }


def test_own_parts_are_used_whole():
    splits = complete({"train": records(LABELS), "test": records([0, 1])})
    assert splits["test"].num_examples == 2
    assert splits["train"].num_examples + splits["validation"].num_examples == 100


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"validation": 0.6, "test": 0.5}, "sum to at most 1"),
        ({"train": 0.9, "validation": 0.2}, "sum to at most 1"),
        ({"validation": 0.5, "test": 0.5}, "leave examples for 'train'"),
        ({"validation": 0.001}, "Too few examples for a stratified 'validation' split"),
    ],
)
def test_fractions_that_do_not_fit(fractions, message):
    with pytest.raises(ConfigurationError, match=message):
        complete({"train": records(LABELS)}, **fractions)


def test_a_fraction_of_a_part_that_exists():
    with pytest.raises(ConfigurationError, match="its own test split"):
        complete({"train": records(LABELS), "test": records([0, 1])}, test=0.1)


def test_a_class_with_a_single_example():
    with pytest.raises(ConfigurationError, match="1 of them of class 'c'"):
        complete({"train": records([0] * 20 + [1] * 20 + [2])})
