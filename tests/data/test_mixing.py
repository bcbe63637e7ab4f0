"""Mixup and CutMix against loops over single examples, and the partners they draw."""

import numpy as np
import pytest
from scipy import stats

from keras_kd.data.draws import Draws
from keras_kd.data.mixing import CutMix, Mixup
from keras_kd.errors import ConfigurationError

every_mixing = pytest.mark.parametrize("mixing", [Mixup(), CutMix()], ids=["mixup", "cut_mix"])


def pairs(count, shape=(8, 10, 3)):
    rng = np.random.default_rng(0)
    return rng.random((count, *shape), "float32"), rng.random((count, *shape), "float32"), Draws(1, np.arange(count), 2)


@every_mixing
def test_partners_are_the_others_each_as_often(mixing):
    partners = np.array([mixing.partners(Draws(0, np.arange(6), view), 6) for view in range(1000)])
    assert partners.dtype == np.int64
    for own in range(6):
        counts = np.bincount(partners[:, own], minlength=6)
        assert counts[own] == 0 and stats.chisquare(np.delete(counts, own)).pvalue > 1e-3


def test_the_only_example_is_its_own_partner():
    np.testing.assert_array_equal(Mixup().partners(Draws(0, [0, 0], 3), 1), [0, 0])


def test_partners_do_not_depend_on_the_batch():
    whole = CutMix().partners(Draws(0, np.arange(100), 3), 100)
    np.testing.assert_array_equal(CutMix().partners(Draws(0, [40, 7], 3), 100), whole[[40, 7]])


@pytest.mark.parametrize("ids", [[0, 6], [-1]])
def test_an_id_outside_of_the_data_set_is_refused(ids):
    with pytest.raises(ConfigurationError, match="example id is outside the data set. .*Expected: 0 to 5."):
        Mixup().partners(Draws(0, ids, 0), 6)


@pytest.mark.parametrize("shape", [(4,), (8, 10, 3)])
def test_mixup_is_the_formula(shape):
    x, partner, draws = pairs(20, shape)
    mixed, share = Mixup(0.4).mix(x, partner, draws)
    np.testing.assert_allclose(share, draws.beta("share", 0.4), rtol=1e-7)
    for row in range(20):
        weight = float(share[row])
        expected = weight * x[row].astype("float64") + (1 - weight) * partner[row].astype("float64")
        np.testing.assert_allclose(mixed[row], expected, atol=2e-7)


def box_of_one(share, row, column, height, width):
    """`rand_bbox` from the published code."""
    cut_height, cut_width = int(height * np.sqrt(1.0 - share)), int(width * np.sqrt(1.0 - share))
    top, bottom = np.clip([row - cut_height // 2, row - cut_height // 2 + cut_height], 0, height)
    left, right = np.clip([column - cut_width // 2, column - cut_width // 2 + cut_width], 0, width)
    return top, bottom, left, right


def test_cut_mix_is_the_published_box_with_its_real_share():
    x, partner, draws = pairs(100)
    mixed, share = CutMix(1.0).mix(x, partner, draws)
    wanted = draws.beta("share", 1.0)
    rows, columns = draws.integers("row", 8), draws.integers("column", 10)
    for n in range(100):
        top, bottom, left, right = box_of_one(wanted[n], rows[n], columns[n], 8, 10)
        expected = x[n].copy()
        expected[top:bottom, left:right] = partner[n, top:bottom, left:right]
        np.testing.assert_array_equal(mixed[n], expected)
        assert share[n] == pytest.approx((mixed[n] == x[n]).all(axis=-1).mean(), abs=1e-6)
    assert share.min() < 0.4 and share.max() > 0.95


def test_cut_mix_pastes_the_box_of_the_mask():
    x, partner, draws = pairs(50)
    masks, partner_masks = np.random.default_rng(3).integers(-1, 4, (2, 50, 8, 10)).astype("int32")
    is_own = (CutMix().mix(x, partner, draws)[0] == x).all(axis=-1)
    mixed = CutMix().mix_positions(masks, partner_masks, draws)
    np.testing.assert_array_equal(mixed, np.where(is_own, masks, partner_masks))
    assert mixed.dtype == np.int32


def test_mixup_of_one_hot_masks_is_the_formula():
    x, partner, draws = pairs(50)
    rows, partner_rows = (
        np.eye(3, dtype="float32")[np.random.default_rng(n).integers(0, 3, (50, 8, 10))] for n in (4, 5)
    )
    rows[:, 0], partner_rows[:, :, 0] = 0, 0
    share = Mixup(0.4).mix(x, partner, draws)[1].astype("float64")[:, None, None, None]
    expected = share * rows + (1 - share) * partner_rows
    expected[:, 0] = expected[:, :, 0] = 0
    np.testing.assert_allclose(Mixup(0.4).mix_positions(rows, partner_rows, draws), expected, atol=1e-6)


@every_mixing
def test_the_share_of_mixed_examples_is_the_probability(mixing):
    x, partner, draws = pairs(1000, (4, 4, 1))
    mixed, share = type(mixing)(alpha=4.0, probability=0.3).mix(x, partner, draws)
    alone = share == 1.0
    np.testing.assert_array_equal(mixed[alone], x[alone])
    assert abs((mixed != x).any(axis=(1, 2, 3)).mean() - 0.3) < 4 * np.sqrt(0.21 / 1000)


@every_mixing
def test_the_share_is_that_of_the_first_in_the_mixture(mixing):
    """When ones are mixed with zeros, the mean is the share."""
    x, _, draws = pairs(200)
    mixed, share = mixing.mix(np.ones_like(x), np.zeros_like(x), draws)
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), share, atol=1e-5)


def test_shares_of_mixup_are_spread_as_beta():
    x, partner, draws = pairs(4000, (1,))
    for alpha in (0.2, 1.0):
        share = Mixup(alpha).mix(x, partner, draws)[1]
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(share.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
        assert share.var() == pytest.approx(variance, rel=0.06)
