import numpy as np
import pytest

from keras_kd.data import calibration_samples, few_labels, open_source
from keras_kd.errors import ConfigurationError


@pytest.fixture(scope="module")
def source():
    return open_source("digits")


def labels_of(samples, split):
    label_of = {x.tobytes(): y for x, y in zip(*split.arrays(), strict=True)}
    return [label_of[sample.tobytes()] for sample in samples]


def test_samples_are_stratified_training_images(source):
    samples = calibration_samples(source.train)
    assert samples.dtype == np.float32 and samples.shape == (200, 8, 8, 1)
    counts = np.bincount(labels_of(samples, source.train))
    share = np.bincount(source.train.labels()) * 200 / source.train.num_examples
    assert np.abs(counts - share).max() < 1
    assert len({sample.tobytes() for sample in samples}) == 200


def test_the_seed_chooses(source):
    first = calibration_samples(source.train, 50)
    np.testing.assert_array_equal(calibration_samples(source.train, 50, seed=0), first)
    assert (calibration_samples(source.train, 50, seed=1) != first).any()


def test_a_small_split_gives_all_it_has(source):
    few = source.train.subset(range(30), "train")
    np.testing.assert_array_equal(calibration_samples(few, 200), few.arrays()[0])


def test_unlabeled_images_count_as_a_class(source):
    _, whole = few_labels(source.train, 100, seed=0)
    labels = labels_of(calibration_samples(whole, 108), whole)
    assert sorted(set(labels)) == list(range(-1, 10))
    assert 90 <= labels.count(-1) <= 98


def test_the_test_split_is_refused(source):
    with pytest.raises(ConfigurationError, match=r"Pass source\.train"):
        calibration_samples(source.test)


@pytest.mark.parametrize("num_samples", [0, 2.5])
def test_bad_numbers(source, num_samples):
    with pytest.raises(ConfigurationError, match="1 <= num_samples"):
        calibration_samples(source.train, num_samples)
