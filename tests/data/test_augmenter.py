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


def test_steps_that_cannot_move_masks_are_refused():
    with pytest.raises(ConfigurationError, match="Custom moves positions but cannot move their labels"):
        Pipeline((IMAGES, MASKS), augment=Custom(lambda x, rng: x, "mine"))


ONE_HOT = np.eye(5, dtype="float32")[MASKS]
LABELED = np.where(rng.random((8, 6, 5, 1)) < 0.1, 0, ONE_HOT)  # a row of zeros has no label


def test_a_resized_crop_takes_the_label_of_the_nearest_pixel():
    """In a bilinear mixture of four pixels, the nearest one has a weight of at least a quarter."""
    pipeline = Pipeline((ONE_HOT, MASKS), augment=[ResizedCrop(), Flip()])
    x, y = pipeline.batch(np.arange(8), view=2)
    assert y.dtype == np.int32 and (y != MASKS).any()
    assert np.take_along_axis(x, y[..., None], axis=-1).min() >= 0.25 - 1e-6


@pytest.mark.parametrize("steps", [CutMix(), [PadAndCrop(2), CutMix(2.0), Flip()]])
def test_a_box_of_the_mask_is_pasted_with_its_pixels(steps):
    x, y = Pipeline((IMAGES, MASKS), augment=steps).batch(np.arange(8), view=1)
    np.testing.assert_array_equal(y, np.where(x[..., 0] == 0, -1, x[..., 0] - 10))
    assert (y != MASKS).any()


def test_masks_are_replayed_bit_for_bit():
    def make():
        return Pipeline((IMAGES, MASKS), augment=[ResizedCrop(), CutMix()], batch_size=3, shuffle=False, seed=5)

    whole = make().batch(np.arange(8), view=4)
    batches = [np.concatenate(parts) for parts in zip(*make().epoch(4), strict=True)]
    for part, again, alone in zip(whole, batches, make().batch([6, 2], view=4), strict=True):
        np.testing.assert_array_equal(part, again)
        np.testing.assert_array_equal(part[[6, 2]], alone)


def test_masks_of_class_numbers_have_no_mixture():
    with pytest.raises(
        ConfigurationError, match=r"Mixup computes shares.*ids of shape \(n, 6, 5\).*one_hot.*Categorical"
    ):
        Pipeline((IMAGES, MASKS), augment=Mixup())


@pytest.mark.parametrize(
    "steps", [Mixup(1.0), [Flip(), PadAndCrop(1), CutMix()], [CutMix(), Mixup(1.0), ResizedCrop()]]
)
def test_one_hot_masks_are_mixed_as_pixels_are(steps):
    x, y = Pipeline((LABELED, ONE_HOT), augment=steps).batch(np.arange(8), view=1)
    assert y.dtype == np.float32 and (y != ONE_HOT).any()
    if steps == Mixup(1.0):
        x, y = y, Pipeline((ONE_HOT, LABELED), augment=steps).batch(np.arange(8), view=1)[1]
        are_missing = y.sum(axis=-1) == 0
        np.testing.assert_array_equal(y[~are_missing], x[~are_missing])
        assert are_missing.any() and ((LABELED.sum(axis=-1) == 0) <= are_missing).all()
    np.testing.assert_allclose(y.sum(axis=-1)[y.sum(axis=-1) > 0], 1, atol=1e-6)


@pytest.mark.parametrize("step", [PadAndCrop(1), ResizedCrop(), CutMix()])
def test_masks_of_another_resolution_are_only_flipped(step):
    small = MASKS[:, ::2]
    with pytest.raises(
        ConfigurationError, match=r"labels of another resolution.*\(6, 5, 1\), labels of shape \(3, 5\)"
    ):
        Pipeline((IMAGES, small), augment=[Flip(), step])
    np.testing.assert_array_equal(
        Pipeline((IMAGES, small), augment=Flip(1.0)).batch(np.arange(8))[1], small[:, :, ::-1]
    )


@pytest.mark.parametrize("augment", [None, GaussianNoise(), Flip(0.0)])
def test_a_named_task_marks_missing_labels_with_and_without_augmentation(augment):
    masks = np.where(MASKS == 4, 255, MASKS).astype("uint8")
    pipeline = Pipeline((IMAGES, masks), augment=augment, task={"name": "segmentation", "ignore_class": 255})
    np.testing.assert_array_equal(pipeline.batch(np.arange(8))[1], np.where(MASKS == 4, -1, MASKS))


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
    with pytest.raises(ConfigurationError, match="'half' turned integers into fractions. Received: dtype float64"):
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
