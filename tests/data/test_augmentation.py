"""The laws of every augmentation, tested over one table, and what the base class and its description reject."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_kd.data import augmentation
from keras_kd.data.augmentation import Augmentation, Custom, GaussianNoise, Mixing, TimeShift, describe, registry
from keras_kd.data.draws import Draws
from keras_kd.data.images import ColorJitter, Cutout, Flip, PadAndCrop, ResizedCrop
from keras_kd.data.mixing import CutMix, Mixup
from keras_kd.data.pairs.sides import Only
from keras_kd.errors import ConfigurationError
from keras_kd.serialization import deserialize, serialize

IMAGE, AUDIO = (9, 11, 3), (50, 2)


def scale_and_shift(x, rng):
    x *= rng.normal()
    return x + rng.normal(size=x.shape)


@dataclasses.dataclass(frozen=True)
class Dim(Augmentation):
    """A user-defined augmentation."""

    strength: float = 0.5

    def __call__(self, x, draws):
        return x * (1 - self.strength * draws.uniform("factor").astype("float32"))[:, None, None, None]


# (augmentation, a valid example shape, an invalid one or None)
MEMBERS = {
    "pad_and_crop": (PadAndCrop(pixels=2, fill=0.5), IMAGE, (2, 11, 3)),
    "flip": (Flip(), IMAGE, (9, 11)),
    "resized_crop": (ResizedCrop(), IMAGE, (9, 11)),
    "color_jitter": (ColorJitter(low=-1.0, probability=0.8), IMAGE, (9, 11, 4)),
    "color_jitter gray": (ColorJitter(), (9, 11, 1), (9, 11)),
    "cutout": (Cutout(pixels=5), IMAGE, (99,)),
    "gaussian_noise": (GaussianNoise(), IMAGE, None),
    "time_shift": (TimeShift(steps=20), AUDIO, (20, 2)),
    "custom": (Custom(scale_and_shift, "scale and shift"), IMAGE, None),
    "dim": (Dim(0.25), IMAGE, None),
    "only": (Only("student", GaussianNoise(0.2)), IMAGE, None),
    "mixup": (Mixup(), IMAGE, None),
    "mixup of audio": (Mixup(alpha=1.0), AUDIO, None),
    "cut_mix": (CutMix(probability=0.9), IMAGE, (9, 11)),
}
every_member = pytest.mark.parametrize(("member", "shape"), [m[:2] for m in MEMBERS.values()], ids=MEMBERS)


def examples(ids, shape):
    """float32 `[b, *shape]` in 0..1, determined by the ids."""
    return np.stack([np.random.default_rng(i).random(shape, "float32") for i in ids])


def applied(member, shape, ids, seed=3, view=1):
    """The augmented batch `[b, ...]` and the mixing share, 0 for an augmentation that does not mix."""
    draws = Draws(seed, ids, view).under("0")
    x = examples(ids, shape)
    if not isinstance(member, Mixing):
        return member(x, draws), np.zeros(len(ids))
    return member.mix(x, examples(member.partners(draws, 64), shape), draws)


def row_digests(member, shape, ids):
    x, share = applied(member, shape, ids)
    rows = (a.tobytes() + b.tobytes() for a, b in zip(x, share, strict=True))
    return [hashlib.sha256(row).hexdigest() for row in rows]


def digests():
    """Digests of examples 15 to 0, in batches of 3, under every member; called in a separate process."""
    order = np.arange(16)[::-1]
    batches = [order[start : start + 3] for start in range(0, 16, 3)]
    return {
        name: [digest for batch in batches for digest in row_digests(member, shape, batch)]
        for name, (member, shape, _) in MEMBERS.items()
    }


@pytest.fixture(scope="module")
def elsewhere():
    """`digests` from a process with another hash seed and only the baseline vector instructions."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    env = {**os.environ, "PYTHONHASHSEED": "1", "NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    code = f"import json, runpy; print(json.dumps(runpy.run_path({__file__!r})['digests']()))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_member_is_in_the_table():
    table = {type(member) for member, _, _ in MEMBERS.values()}
    assert set(registry.members) == table - {Dim}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_same_bits_in_another_process_order_and_batch(elsewhere, name):
    member, shape, _ = MEMBERS[name]
    assert elsewhere[name][::-1] == row_digests(member, shape, np.arange(16))


@every_member
@pytest.mark.parametrize("size", [1, 5])
def test_the_same_bits_in_batches_of_any_size(member, shape, size):
    whole = row_digests(member, shape, np.arange(64))
    assert [d for start in range(0, 20, size) for d in row_digests(member, shape, np.arange(start, start + size))] == (
        whole[:20]
    )


@every_member
def test_another_view_seed_or_example_is_augmented_otherwise(member, shape):
    ids = np.arange(32)
    x = applied(member, shape, ids)[0]
    for other in ({"view": 2}, {"seed": 4}):
        assert (applied(member, shape, ids, **other)[0] != x).any()
    twins = np.repeat(examples([7], shape), 2, axis=0)
    changed = [
        member.mix(twins, 1 - twins, d)[0] if isinstance(member, Mixing) else member(twins, d)
        for d in (Draws(3, pair, 1) for pair in ([0, 1], [2, 3], [4, 5]))
    ]
    assert any((one != two).any() for one, two in changed)


@every_member
def test_shape_and_dtype_stay_and_the_input_is_left_alone(member, shape):
    ids = np.arange(8)
    x, draws = examples(ids, shape), Draws(0, ids, 0)
    before = x.copy()
    x.flags.writeable = False
    if isinstance(member, Mixing):
        result, share = member.mix(x, x[::-1], draws)
        assert share.shape == (8,) and share.dtype == np.float32
    else:
        result = member(x, draws)
    assert result.shape == x.shape and result.dtype == np.float32 and result.flags.c_contiguous
    assert not np.shares_memory(result, x)
    np.testing.assert_array_equal(x, before)


@every_member
def test_a_batch_may_be_empty(member, shape):
    draws, nothing = Draws(0, [], 0), np.zeros((0, *shape), np.float32)
    result = member.mix(nothing, nothing, draws)[0] if isinstance(member, Mixing) else member(nothing, draws)
    assert result.shape == nothing.shape


@every_member
def test_settings_survive_json(member, shape):
    if isinstance(member, Custom):
        return
    config = json.loads(json.dumps(member.get_config()))
    assert config == member.get_config()
    assert type(member).from_config(config) == member and hash(type(member).from_config(config)) == hash(member)
    if type(member) in registry.members:
        described = json.loads(json.dumps(describe([member])))
        assert augmentation.get(described[0]) == member
        assert deserialize(serialize(member)) == member


@pytest.mark.parametrize(("member", "shape", "unfit"), MEMBERS.values(), ids=MEMBERS)
def test_examples_that_do_not_fit_are_refused(member, shape, unfit):
    member.check(shape)
    if unfit is not None:
        with pytest.raises(ConfigurationError) as error:
            member.check(unfit)
        assert repr(member) in str(error.value) and f"shape {unfit}. Expected: " in str(error.value)


# Members for audio and for arbitrary inputs.


def test_noise_is_added_with_its_standard_deviation():
    x = examples(range(40), IMAGE)
    noise = (GaussianNoise(stddev=0.3)(x, Draws(0, np.arange(40), 0)) - x).astype("float64")
    assert noise.std() == pytest.approx(0.3, rel=0.02) and abs(noise.mean()) < 4 * 0.3 / np.sqrt(noise.size)
    assert len({tuple(row.ravel()[:5]) for row in noise}) == 40


@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_audio_is_shifted_by_every_step_and_filled_with_silence(shape):
    ids = np.arange(300)
    x, draws = examples(ids, shape), Draws(0, ids, 0)
    shifted = TimeShift(steps=2)(x, draws)
    shifts = draws.integers("shift", 5) - 2
    assert sorted(set(shifts)) == [-2, -1, 0, 1, 2]
    for row, shift in enumerate(shifts):
        for time in range(6):
            source = time - shift
            expected = x[row, source] if 0 <= source < 6 else np.zeros_like(x[row, 0])
            np.testing.assert_array_equal(shifted[row, time], expected)


def test_a_custom_function_gets_one_example_and_a_generator_of_its_own():
    ids = np.arange(6)
    x, draws = examples(ids, IMAGE), Draws(2, ids, 4)
    changed = Custom(scale_and_shift, "n")(x, draws)
    for row, key in enumerate(draws.bits("key", (2,))):
        rng = np.random.Generator(np.random.Philox(key=key))
        factor = rng.normal()
        expected = x[row].astype("float64") * np.float32(factor) + rng.normal(size=IMAGE)
        np.testing.assert_allclose(changed[row], expected, rtol=1e-5, atol=1e-6)


def test_a_custom_function_may_not_change_the_shape():
    with pytest.raises(ConfigurationError, match=r"'first' changed .* Received: shape \(11, 3\). Expected: shape \(9"):
        Custom(lambda x, rng: x[0], "first")(examples([0], IMAGE), Draws(0, [0], 0))


# Descriptions.


def test_a_description_is_plain_and_in_order():
    steps = [
        PadAndCrop(),
        "flip",
        {"name": "cutout", "pixels": 16},
        Custom(scale_and_shift, "mine"),
        Dim(np.float32(1)),
    ]
    assert describe(steps) == [
        {"name": "pad_and_crop", "pixels": 4, "fill": 0.0},
        {"name": "flip", "probability": 0.5},
        {"name": "cutout", "pixels": 16, "fill": 0.0, "probability": 1.0},
        {"name": "custom", "function_name": "mine"},
        {"name": "dim", "strength": 1.0},
    ]
    json.dumps(describe(steps))


def test_equal_settings_are_described_alike_however_they_are_written():
    assert describe([ResizedCrop((0.5, 1), ratio=[1, 1])]) == describe([ResizedCrop([0.5, 1.0], (1.0, 1.0))])
    assert describe([PadAndCrop(np.int64(4), fill=0)]) == describe([PadAndCrop()])


@dataclasses.dataclass(frozen=True)
class Named(Dim):
    name: str = "n"


@dataclasses.dataclass(frozen=True)
class Filled(Dim):
    fill: object = None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: augmentation.get("flop"), "Unknown augmentation. Received: 'flop'. .*Did you mean 'flip'"),
        (lambda: augmentation.get(3), "Unsupported augmentation. Received: 3."),
        (lambda: augmentation.get({"name": "flip", "rate": 1}), "'flip' does not take these settings"),
        (
            lambda: augmentation.get({"name": "custom", "function_name": "mine"}),
            "Expected: custom.function",
        ),
        (lambda: Custom(scale_and_shift, ""), "Expected: a function .x, rng. of one example, and a name"),
        (lambda: Custom.from_config({"function_name": "mine"}), "Pass Custom.function, name. itself"),
        (lambda: describe([Named()]), "A field of Named may not be called"),
        (lambda: describe([Filled(fill=np.zeros(2))]), "A setting of Filled cannot be described"),
        (lambda: Mixup()(np.zeros((1, 2)), Draws(0, [0], 0)), "Mixup mixes two examples and their labels. .*`mix"),
        (lambda: GaussianNoise(-0.1), "Invalid 'stddev'. Received: -0.1."),
        (lambda: TimeShift(0.5), "Invalid 'steps'. Received: 0.5."),
        (lambda: PadAndCrop(-1), "Invalid 'pixels'. Received: -1."),
        (lambda: PadAndCrop(fill="black"), "Invalid 'fill'. Received: 'black'."),
        (lambda: Flip(1.5), "Invalid 'probability'. Received: 1.5."),
        (lambda: ResizedCrop(scale=(0.0, 1.0)), r"Invalid 'scale'. .* 0 < lowest <= highest <= 1."),
        (lambda: ResizedCrop(scale=(0.5, 1.5)), "Invalid 'scale'"),
        (lambda: ResizedCrop(ratio=(2.0, 1.0)), r"Invalid 'ratio'. Received: \(2.0, 1.0\)"),
        (lambda: ResizedCrop(ratio=1.0), "Invalid 'ratio'. Received: 1.0."),
        (lambda: ColorJitter(saturation=-1.0), "Invalid 'saturation'. Received: -1.0."),
        (lambda: ColorJitter(low=1.0), "The range is empty. Received: low=1, high=1."),
        (lambda: Cutout(0), "Invalid 'pixels'. Received: 0."),
        (lambda: Mixup(0.0), "Invalid 'alpha'. Received: 0.0."),
        (lambda: CutMix(probability=-1), "Invalid 'probability'. Received: -1."),
    ],
)
def test_errors_state_what_was_received_and_expected(make, words):
    with pytest.raises(ConfigurationError, match=words):
        make()
