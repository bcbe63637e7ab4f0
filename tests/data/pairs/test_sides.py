"""Augmentation of pairs: equal draws for both sides, compared pixel for pixel with NumPy that knows no draws."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from keras_kd.data import (
    ColorJitter,
    Custom,
    CutMix,
    Cutout,
    Flip,
    GaussianNoise,
    Mixup,
    Only,
    PadAndCrop,
    Pipeline,
    ResizedCrop,
    TimeShift,
    augmentation,
)
from keras_kd.data.pairs.selection import selected, selected_or_own
from keras_kd.data.pairs.sides import select
from keras_kd.errors import ConfigurationError

IDS = np.arange(24)


def pooled(x, down=2, across=2):
    n, height, width, channels = x.shape
    return x.reshape(n, height // down, down, width // across, across, channels).mean((2, 4))


@pytest.fixture(scope="module")
def pair():
    """Colour images, and their gray values in half the resolution; whole numbers, so that means are exact."""
    colour = np.random.default_rng(0).integers(0, 256, (24, 12, 16, 3)).astype("float32")
    return {"teacher": colour, "student": pooled(colour[..., :1])}


def batch(x, augment, view=1, ids=IDS, **settings):
    return Pipeline((x,), augment=augment, seed=3, **settings).batch(ids, view)[0]


def moved(image, down, right, flip):
    """The image shifted by whole pixels, with zeros in the gap, then flipped."""
    shifted = np.zeros_like(image)
    height, width = image.shape[:2]
    shifted[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return shifted[:, ::-1] if flip else shifted


def test_both_sides_move_alike_pixel_for_pixel(pair):
    x = batch(pair, [PadAndCrop(2), Flip()])
    seen = set()
    for row in IDS:
        moves = itertools.product(range(-2, 3), range(-2, 3), (False, True))
        found = [move for move in moves if np.array_equal(moved(pair["student"][row], *move), x["student"][row])]
        assert len(found) == 1
        (down, right, flip), *_ = found
        np.testing.assert_array_equal(x["teacher"][row], moved(pair["teacher"][row], 2 * down, 2 * right, flip))
        seen |= {("down", down), ("right", right), ("flip", flip)}
    assert len(seen) == 12  # every shift, flipped and not


@pytest.mark.parametrize("augment", [PadAndCrop(2), Flip(), Cutout(3), CutMix(), Mixup(1.0)], ids=repr)
def test_augmenting_and_lowering_the_resolution_commute(pair, augment):
    x = batch(pair, augment)
    assert (x["student"] != pair["student"]).any()
    np.testing.assert_allclose(x["student"], pooled(x["teacher"][..., :1]), rtol=1e-5, atol=1e-4)


def test_boxes_are_cropped_alike():
    """A ramp keeps its values under bilinear interpolation, away from the borders of the box."""
    ramp = np.broadcast_to(np.arange(32, dtype="float32")[:, None, None] + 0.5, (32, 32, 1))
    pair = {"teacher": np.repeat(ramp[None], 24, 0), "student": pooled(np.repeat(ramp[None], 24, 0))}
    x = batch(pair, ResizedCrop(scale=(0.3, 0.6)))
    np.testing.assert_allclose(pooled(x["teacher"])[:, 2:-2], x["student"][:, 2:-2], atol=1e-4)
    assert len(np.unique(x["student"][:, 8, 0, 0].round(3))) > 5


def test_a_student_alone_sees_the_views_that_it_sees_in_a_pair(pair):
    augment = [PadAndCrop(2), Flip(), ColorJitter(high=255.0), Cutout(3)]
    x = batch(pair, augment)
    np.testing.assert_array_equal(batch(pair["student"], augment), x["student"])
    pipeline = Pipeline((pair, np.arange(24)), augment=augment, seed=3, batch_size=5)
    for (x, y), (alone, labels) in zip(pipeline.epoch(2), pipeline.side("student").epoch(2), strict=True):
        np.testing.assert_array_equal(x["student"], alone)
        np.testing.assert_array_equal(y, labels)
    assert pipeline.identity() != pipeline.side("student").identity() != pipeline.side("teacher").identity()


def test_steps_of_audio_and_of_its_spectrogram():
    wave = np.arange(1, 161, dtype="float32").reshape(1, 160).repeat(24, 0)
    pair = {"wave": wave, "spectrogram": wave.reshape(24, 20, 8)}
    x = batch(pair, TimeShift(5))
    np.testing.assert_array_equal(x["wave"].reshape(24, 20, 8), x["spectrogram"])
    assert len(np.unique(x["wave"][:, 80])) > 5


def test_axes_of_different_resolution():
    x = np.random.default_rng(0).integers(0, 256, (24, 12, 16, 1)).astype("float32")
    pair = {"a": pooled(x, 2, 1), "b": pooled(x, 1, 2)}  # the grid is 6 x 8
    found = batch(pair, [PadAndCrop(1), Flip(), Cutout(2)])
    np.testing.assert_allclose(pooled(found["a"], 1, 2), pooled(found["b"], 2, 1), rtol=1e-6)


# One side alone.


def test_only_leaves_the_others_as_they_are(pair):
    steps = [Flip(), Only("student", GaussianNoise(2.0)), Only(["teacher"], "color_jitter")]
    x = batch(pair, steps)
    flipped = batch(pair, Flip())
    noise = x["student"] - flipped["student"]
    assert 1.8 < noise.std() < 2.2
    assert (x["teacher"] != flipped["teacher"]).any()
    np.testing.assert_array_equal(batch(pair, steps[:2])["teacher"], flipped["teacher"])
    assert (batch(pair, steps, view=2)["student"] - batch(pair, Flip(), view=2)["student"] != noise).any()


def test_only_is_described_and_restored():
    step = Only(["a", "b"], PadAndCrop(2))
    (described,) = augmentation.describe([step])
    assert described == {
        "name": "only",
        "sides": ["a", "b"],
        "augmentation": {"name": "pad_and_crop", "pixels": 2, "fill": 0.0},
    }
    assert augmentation.get(described) == step


def test_a_side_that_is_not_augmented_may_be_anything(pair):
    text = np.array([f"an image of {n}" for n in range(24)])
    x = {"student": pair["student"], "teacher": text, "ids": np.arange(72).reshape(24, 3), "nested": {"a": IDS}}
    found = batch(x, Only("student", Flip()))
    assert found["teacher"].tolist() == text.tolist() and found["nested"]["a"].tolist() == IDS.tolist()
    assert found["ids"].dtype == np.int64 and found["student"].dtype == np.float32


def test_unlabeled_and_labeled_pairs_have_the_same_views(pair):
    augment = [PadAndCrop(1), Flip(), GaussianNoise(1.0)]
    same = {"teacher": pair["student"], "student": pair["student"]}
    x = batch(same, augment)
    np.testing.assert_array_equal(x["teacher"], x["student"])
    labeled = Pipeline((same, IDS), augment=augment, seed=3).batch(IDS, 1)[0]
    np.testing.assert_array_equal(labeled["student"], x["student"])


# Labels.


def test_masks_move_with_the_side_of_their_resolution(pair):
    for side in pair:
        mask = pair[side][..., 0].astype("int32") % 3
        x, y = Pipeline((pair, mask), augment=[Flip(), PadAndCrop(2, fill=-1.0)], task="segmentation").batch(IDS)
        kept = x[side][..., 0] >= 0
        np.testing.assert_array_equal(y[kept], x[side][..., 0][kept].astype("int32") % 3)
        np.testing.assert_array_equal(y[~kept], -1)
    with pytest.raises(ConfigurationError, match="of some inputs alone.*labels of their positions"):
        Pipeline((pair, mask), augment=Only("student", Flip()), task="segmentation")


def test_mixed_labels_are_those_of_both_sides(pair):
    y = np.arange(24) % 3
    x, labels = Pipeline((pair, y), augment=CutMix(), seed=3).batch(IDS, 1)
    alone, expected = Pipeline((pair["student"], y), augment=CutMix(), seed=3).batch(IDS, 1)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(x["student"], alone)


# Other processes.


def test_the_same_views_in_another_process():
    code = """
import hashlib, numpy as np
from keras_kd.data import *
rng = np.random.default_rng(0)
x = {"teacher": rng.random((40, 8, 8, 3), "float32"), "student": rng.random((40, 4, 4, 1), "float32")}
steps = [PadAndCrop(1), Flip(), ResizedCrop(), CutMix(), Only("student", GaussianNoise(0.1))]
pipeline = Pipeline((x, np.arange(40) % 4), augment=steps, seed=5)
x, y = pipeline.batch([5, 39, 3], view=7)
print(hashlib.sha256(x["teacher"].tobytes() + x["student"].tobytes() + y.tobytes()).hexdigest())
print(pipeline.examples.fingerprint, pipeline.side("student").identity())
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and "'side': 'student'" in runs[0].stdout


# What is refused.


REFUSED = {
    "sizes that do not divide": (
        PadAndCrop(1),
        {"a": (9, 12, 3), "b": (6, 12, 3)},
        r"whole multiples.*\(6, 12\).*Only",
    ),
    "draws by shape": (GaussianNoise(0.1), {"a": (8, 8, 3), "b": (8, 8, 1)}, "equal shape.*Only"),
    "a function of the user": (Custom(lambda x, rng: x, "f"), {"a": (8, 8, 3), "b": (4, 4, 3)}, "equal shape"),
    "no image": (Flip(), {"a": (8, 8, 3), "b": (5,)}, "The input 'b'.*images.*Only"),
    "too few axes": (PadAndCrop(1), {"a": (8, 8, 3), "b": (5,)}, "at least 2 axes"),
    "more padding than the smallest side": (PadAndCrop(4), {"a": (8, 8, 3), "b": (4, 4, 3)}, "more than 4 pixels"),
    "an unknown side": (Only("techer", Flip()), {"teacher": (8, 8, 3)}, "no input 'techer'.*Did you mean 'teacher'"),
    "a mixture of one side": (Mixup(), {"a": (8, 8, 3), "b": None}, "integer inputs.*has to change all inputs"),
    "no sides": (Only("student", Flip()), None, "no input 'student'.*without names"),
}


@pytest.mark.parametrize(("augment", "shapes", "message"), REFUSED.values(), ids=REFUSED)
def test_pairs_that_do_not_fit_are_refused(augment, shapes, message):
    tokens = np.zeros((4, 5), "int64")
    x = {name: tokens if shape is None else np.zeros((4, *shape), "float32") for name, shape in (shapes or {}).items()}
    with pytest.raises(ConfigurationError, match=message):
        Pipeline((x or np.zeros((4, 8, 8, 3), "float32"),), augment=augment)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Only("student", Mixup()),
        lambda: Only("student", Only("student", Flip())),
        lambda: Only("", Flip()),
        lambda: Only([], Flip()),
        lambda: Only(["a", "a"], Flip()),
        lambda: Only(5, Flip()),
        lambda: Only("student", "flop"),
        lambda: Only("student", None),
    ],
)
def test_an_invalid_only_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_unequal_lengths_are_named():
    x = {"teacher": np.zeros((10, 4)), "student": np.zeros((9, 4))}
    with pytest.raises(ConfigurationError, match=r"x\['student'\] \(9, 4\), x\['teacher'\] \(10, 4\), y \(10,\)"):
        Pipeline((x, np.zeros(10)))


def test_a_side_that_is_not_there_is_named(pair):
    with pytest.raises(ConfigurationError, match="no input 'studnt'.*'student', 'teacher'.*Did you mean 'student'"):
        Pipeline((pair,)).side("studnt")
    with pytest.raises(ConfigurationError, match=r"x is one array of shape \(1, 6, 8, 1\)"):
        Pipeline((pair["student"],)).side("student")


# Selection.


def test_selection():
    x = {"teacher": 1, "student": 2}
    assert selected("teacher", x) == select(x, "teacher") == 1
    assert selected(lambda x: x["student"] + 1, x) == 3 and selected(None, 7) == 7
    assert selected_or_own("student", x, None) == 2 and selected_or_own("student", 7, None) == 7
    with pytest.raises(ConfigurationError, match="both.*teacher_inputs='teacher'"):
        selected(None, x)
    with pytest.raises(ConfigurationError, match="'teacher'"):
        selected_or_own("student", {"teacher": 1}, None)
