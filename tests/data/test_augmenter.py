"""Labels follow augmented inputs: masks move with their pixels, token ids stay integers, and nothing is guessed."""

import numpy as np
import pytest

from keras_kd.data import (
    ColorJitter,
    Custom,
    CutMix,
    Flip,
    GaussianNoise,
    Mixup,
    PadAndCrop,
    Pipeline,
    ResizedCrop,
    TimeShift,
)
from keras_kd.errors import ConfigurationError

rng = np.random.default_rng(2)
MASKS = rng.integers(0, 5, (8, 6, 5))
IMAGES = (MASKS[..., None] + 10).astype("float32")  # each pixel encodes its class
IDS = rng.integers(1, 9, (8, 7))


@pytest.mark.parametrize("step", [Flip(), PadAndCrop(2), Flip(1.0)])
def test_masks_move_with_their_pixels(step):
    for view in range(3):
        x, y = Pipeline((IMAGES, MASKS), augment=step).batch(np.arange(8), view)
        uncovered = x[..., 0] == 0
        np.testing.assert_array_equal(y[~uncovered], x[..., 0][~uncovered] - 10)
        assert (y[uncovered] == -1).all()
    assert (x != IMAGES).any()


def test_labels_of_steps_move_with_them():
    labels = rng.integers(0, 4, (8, 9))
    audio = (labels + 10).astype("float32")
    x, y = Pipeline((audio, labels), augment=TimeShift(3), task="token_classification").batch(np.arange(8))
    np.testing.assert_array_equal(y, np.where(x == 0, -1, x - 10))


def test_steps_that_keep_positions_leave_masks_alone():
    steps = [ColorJitter(low=0, high=20), GaussianNoise(), Custom(lambda x, rng: x + 1, "more", keeps_positions=True)]
    x, y = Pipeline((IMAGES, MASKS), augment=steps).batch(np.arange(8))
    np.testing.assert_array_equal(y, MASKS)
    assert (x != IMAGES).any()


@pytest.mark.parametrize("step", [ResizedCrop(), Custom(lambda x, rng: x, "mine")])
def test_steps_that_cannot_move_masks_are_refused(step):
    with pytest.raises(ConfigurationError, match="moves positions, and their labels would stay behind"):
        Pipeline((IMAGES, MASKS), augment=step)


@pytest.mark.parametrize("step", [Mixup(), CutMix()])
def test_masks_are_not_mixed(step):
    with pytest.raises(ConfigurationError, match="Examples of segmentation cannot be mixed"):
        Pipeline((IMAGES, MASKS), augment=step)


def test_token_ids_stay_whole():
    swapped = Custom(lambda x, rng: np.where(rng.random(x.shape) < 0.5, 0, x), "drop", keeps_positions=True)
    x, y = Pipeline((IDS, IDS % 3), augment=swapped, task="token_classification").batch(np.arange(8))
    assert x.dtype == IDS.dtype and np.isin(x[x != IDS], 0).all() and (x == 0).any()
    np.testing.assert_array_equal(y, IDS % 3)
    assert Pipeline((IDS, np.arange(8))).batch(np.arange(8))[0].dtype == IDS.dtype


@pytest.mark.parametrize("step", [GaussianNoise(), Mixup()])
def test_what_computes_with_real_numbers_refuses_token_ids(step):
    with pytest.raises(ConfigurationError, match=r"int64 of shape \(n, 7\).*astype\('float32'\)"):
        Pipeline((IDS, np.arange(8)), augment=step)


def test_fractions_of_token_ids_are_refused():
    with pytest.raises(ConfigurationError, match="'half' made fractions of whole numbers. Received: dtype float64"):
        Pipeline((IDS, np.arange(8)), augment=Custom(lambda x, rng: x / 2, "half")).batch(np.arange(8))


def test_targets_of_a_regression_are_mixed():
    targets = np.arange(8.0)
    x, y = Pipeline((targets[:, None], targets), augment=Mixup(1.0), task="regression").batch(np.arange(8))
    np.testing.assert_allclose(y, x, rtol=1e-5)
    assert (y[:, 0] != targets).any()


def test_labels_that_apply_together_are_mixed_as_they_are():
    hot = np.eye(4)[rng.integers(0, 4, 8)] + np.eye(4)[rng.integers(0, 4, 8)]
    hot = np.minimum(hot, 1)
    hot[0] = 0
    x, y = Pipeline((hot.astype("float32"), hot), augment=Mixup(1.0), task="multi_label").batch(np.arange(8))
    np.testing.assert_allclose(y, x, rtol=1e-5)


def test_rows_that_are_neither_shares_nor_named_are_refused():
    with pytest.raises(ConfigurationError, match="more than one task.*multi_label.*regression"):
        Pipeline((IMAGES, np.ones((8, 3))), augment=Mixup())


def test_labels_of_a_named_task_are_checked_and_may_be_missing():
    targets = np.array([1.5, np.nan] * 4)
    assert np.isnan(Pipeline((IMAGES, targets), task="regression").batch([1])[1]).all()
    with pytest.raises(ConfigurationError, match="finite"):
        Pipeline((IMAGES, targets))
    with pytest.raises(ConfigurationError, match="7 in row 0"):
        Pipeline((IMAGES, np.full(8, 7)), augment=Mixup(), num_classes=3, task="classification")
