"""FGSM and PGD against closed forms and a float64 NumPy version; the ball and the value range are never left."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_kd import adversaries
from keras_kd.adversaries import FGSM, PGD, objectives
from keras_kd.errors import ConfigurationError
from keras_kd.serialization import deserialize, serialize


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def numpy_pgd(x, gradient, epsilon, steps, size, norm, value_range=(0, 1)):
    """Projected gradient ascent, one example at a time."""
    found = []
    for number, clean in enumerate(x):
        moved = clean.copy()
        for _ in range(steps):
            slope = gradient(moved, number)
            unit = np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope)
            offset = moved + size * unit - clean
            if norm == "linf":
                offset = np.minimum(np.maximum(offset, -epsilon), epsilon)
            elif np.linalg.norm(offset) > epsilon:
                offset *= epsilon / np.linalg.norm(offset)
            moved = np.minimum(np.maximum(clean + offset, value_range[0]), value_range[1])
        found.append(moved)
    return np.array(found)


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def test_one_fgsm_step_by_hand():
    """Value by value: up, down, not at all, stopped by the value range."""
    x, slope = [[0.5, 0.5, 0.5, 0.95]], tensor([[2.0, -0.1, 0.0, 7.0]])
    moved = FGSM(0.1).perturb(tensor(x), lambda _: slope)
    np.testing.assert_allclose(moved, [[0.6, 0.4, 0.5, 1.0]], atol=1e-7)
    moved = FGSM(0.1, norm="l2").perturb(tensor([[0.5, 0.5]]), lambda _: tensor([[3.0, -4.0]]))
    np.testing.assert_allclose(moved, [[0.56, 0.42]], atol=1e-6)


@pytest.mark.parametrize("random_start", [False, True, 0.001])
def test_pgd_on_a_linear_objective_is_the_closed_form(random_start):
    """`x + epsilon * sign(w)`, from any start: ten steps of 2.5 * epsilon / 10 cross the ball."""
    rng = np.random.default_rng(0)
    x, w = rng.uniform(0.3, 0.7, (5, 4, 3)), rng.normal(size=(5, 4, 3))
    adversary = PGD(0.1, random_start=random_start)
    moved = adversary.perturb(tensor(x), lambda _: tensor(w), start=adversary.start(tensor(x), step=3))
    np.testing.assert_allclose(moved, x + 0.1 * np.sign(w), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("objective", ["labels", "fixed", "moving"])
def test_softmax_regression_as_in_float64(norm, objective):
    rng = np.random.default_rng(1)
    x, weights, other = rng.uniform(size=(6, 8)), rng.normal(size=(8, 4)), rng.normal(size=(8, 4))
    goal = np.eye(4)[rng.integers(0, 4, 6)] if objective == "labels" else softmax(x @ other)

    def slope(moved, number):
        q = softmax(moved @ weights)
        if objective != "moving":
            return weights @ (q - goal[number])
        p = softmax(moved @ other)  # d KL(p || q) / dx, through both
        ratio = np.log(p / q)
        return other @ (p * (ratio - (p * ratio).sum())) + weights @ (q - p)

    def total(moved):
        logits = moved @ tensor(weights)
        if objective == "moving":
            return ops.sum(objectives.kl_divergence(moved @ tensor(other), logits))
        return ops.sum(objectives.cross_entropy(tensor(goal), logits))

    settings = {"norm": norm, "steps": 7, "step_size": 0.02}
    from keras_kd.distillers.checks import training_step

    gradient = training_step().input_gradient
    moved = PGD(0.1, **settings).perturb(tensor(x), lambda moved: gradient(total, moved))
    expected = numpy_pgd(x, slope, 0.1, 7, 0.02, norm)
    np.testing.assert_allclose(moved, expected, atol=2e-6)
    assert np.abs(expected - x).max() > 0.03


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    epsilon=st.floats(0.001, 1.0),
    size=st.floats(0.001, 3.0),
    steps=st.integers(1, 4),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from([True, False, 0.5]),
    low=st.sampled_from([0.0, -1.0]),
)
def test_neither_the_ball_nor_the_value_range_is_left(seed, epsilon, size, steps, norm, start, low):
    rng = np.random.default_rng(seed)
    x = rng.uniform(low, 1, (3, 5)).astype("float32")
    x[0, :2] = low, 1.0
    adversary = PGD(epsilon, steps=steps, step_size=size, random_start=start, norm=norm, value_range=(low, 1.0))
    slopes = tensor(rng.normal(size=(3, 5)) * 10.0 ** rng.integers(-30, 30, (3, 1)))
    moved = np.asarray(adversary.perturb(tensor(x), lambda _: slopes, start=adversary.start(tensor(x), step=seed)))
    offset = moved.astype("float64") - x
    radius = np.abs(offset).max() if norm == "linf" else np.linalg.norm(offset, axis=1).max()
    assert np.isfinite(moved).all() and radius <= epsilon + 1e-6
    assert moved.min() >= low and moved.max() <= 1.0


def test_an_example_is_perturbed_in_the_same_way_in_any_batch():
    x = np.random.default_rng(0).uniform(size=(4, 6))
    slopes = np.random.default_rng(1).normal(size=(4, 6))
    adversary = PGD(0.1, norm="l2", random_start=False)
    together = adversary.perturb(tensor(x), lambda _: tensor(slopes))
    alone = [adversary.perturb(tensor(x[i : i + 1]), lambda _, i=i: tensor(slopes[i : i + 1])) for i in range(4)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_is_uniform_in_the_ball_and_repeats_by_seed_and_step(norm):
    x = ops.full((4000, 3), 0.5)
    adversary = PGD(0.2, norm=norm, seed=5)
    offset = np.asarray(adversary.start(x, step=7)) - 0.5
    radius = np.abs(offset).max(axis=1) if norm == "linf" else np.linalg.norm(offset, axis=1)
    deciles = np.quantile((radius / 0.2) ** 3, np.linspace(0.1, 0.9, 9))  # uniform in 0..1 for a uniform ball
    np.testing.assert_allclose(deciles, np.linspace(0.1, 0.9, 9), atol=0.03)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=0.01)
    np.testing.assert_array_equal(adversary.start(x, step=7), offset + np.float32(0.5))
    for other in (adversary.start(x, step=8), dataclasses.replace(adversary, seed=6).start(x, step=7)):
        assert np.abs(np.asarray(other) - 0.5 - offset).mean() > 0.01


def test_gradients_that_are_zero_or_not_finite_do_not_move_a_value():
    slopes = tensor([[np.nan, np.inf, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    for norm in ("linf", "l2"):
        moved = FGSM(0.1, norm=norm).perturb(ops.full((2, 4), 0.5), lambda _: slopes)
        np.testing.assert_allclose(moved, [[0.5, 0.5, 0.5, 0.6], [0.5] * 4], atol=1e-6)


def test_outside_finds_examples_and_ignores_rounding():
    x = tensor([[0.0, 1.0], [0.0, 1.000001], [0.5, 1.01], [-2.0, 0.5], [np.nan, 0.5]])
    assert np.asarray(FGSM(0.1).outside(x)).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("adversary", [FGSM(0.1, norm="l2"), PGD(8, value_range=(0, 255), objective="kl", seed=3)])
def test_config_round_trip(adversary):
    assert deserialize(serialize(adversary)) == adversary
    assert adversaries.get(adversary) is adversary


def test_settings_read_from_plain_data():
    read = adversaries.get({"name": "pgd", "epsilon": 4, "value_range": [0, 255], "steps": 5})
    assert read == PGD(4, steps=5, value_range=(0, 255)) and read.size_of_step == 2.0
    assert PGD(8 / 255).size_of_step == pytest.approx(2 / 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(8), "epsilon=8 for values from 0 to 1.*value_range=\\(0, 255\\)"),
        (lambda: FGSM(0), "epsilon"),
        (lambda: FGSM(-0.1), "epsilon"),
        (lambda: FGSM(float("nan")), "epsilon"),
        (lambda: FGSM("8/255"), "epsilon"),
        (lambda: PGD(0.1, steps=0), "'steps'.*Received: 0"),
        (lambda: PGD(0.1, steps=2.5), "'steps'"),
        (lambda: PGD(0.1, step_size=0), "'step_size'"),
        (lambda: PGD(0.1, random_start=-1.0), "'random_start'"),
        (lambda: PGD(0.1, random_start=0), "'random_start'"),
        (lambda: PGD(0.1, value_range=(1, 0)), "'value_range'"),
        (lambda: PGD(0.1, value_range=1), "'value_range'"),
        (lambda: PGD(0.1, norm="l1"), "'norm'.*'linf', 'l2'"),
        (lambda: PGD(0.1, objective="margin"), "'objective'.*'adaptive_kl'"),
        (lambda: PGD(0.1, seed=-1), "'seed'"),
        (lambda: adversaries.get("bim"), "adversary.*fgsm, pgd"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_random_start_in_an_l2_ball_needs_a_known_size():
    with pytest.raises(ConfigurationError, match="known size"):
        PGD(0.1, norm="l2").start(keras.KerasTensor((None, None, None, 3)), step=0)
