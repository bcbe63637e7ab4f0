import keras
import numpy as np
import pytest

from keras_kd.data import few_labels, mark_unlabeled, open_source
from keras_kd.errors import ConfigurationError


@pytest.fixture(scope="module")
def train():
    return open_source("digits").train


def test_few_labels_are_stratified_and_true(train):
    labeled, whole = few_labels(train, 40, seed=0)
    assert labeled.num_examples == 40 and whole.num_examples == train.num_examples
    assert np.bincount(labeled.labels()).tolist() == [4] * 10
    kept = whole.labels() != -1
    assert kept.sum() == 40
    np.testing.assert_array_equal(whole.labels()[kept], train.labels()[kept])
    np.testing.assert_array_equal(labeled.arrays()[0], train.arrays()[0][kept])
    np.testing.assert_array_equal(labeled.labels(), train.labels()[kept])
    np.testing.assert_array_equal(whole.arrays()[0], train.arrays()[0])


def test_the_seed_chooses(train):
    first, again, other = (few_labels(train, 40, seed=seed)[1].labels() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_few_labels_of_few_labels(train):
    _, whole = few_labels(train, 100, seed=0)
    labeled, fewer = few_labels(whole, 20, seed=0)
    assert set(np.flatnonzero(fewer.labels() != -1)) <= set(np.flatnonzero(whole.labels() != -1))
    assert (labeled.labels() >= 0).all()


def test_mark_unlabeled(train):
    marked = mark_unlabeled(train, [3, 5])
    assert np.flatnonzero(marked.labels() != -1).tolist() == [3, 5]


def test_keras_skips_the_others(train):
    _, whole = few_labels(train, 40, seed=0)
    logits = np.random.default_rng(0).normal(size=(train.num_examples, 10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    kept = whole.labels() != -1
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -log_p[kept, whole.labels()[kept]].mean()
    assert float(loss(whole.labels(), logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_labeled", [9, 1079, 20.0])
def test_bad_numbers(train, num_labeled):
    with pytest.raises(ConfigurationError, match="10 <= num_labeled <= 1078"):
        few_labels(train, num_labeled, seed=0)
