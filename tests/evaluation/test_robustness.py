"""Robustness against closed forms, a NumPy attack and an independent library."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.adversaries import FGSM, PGD
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import KerasRunner, TFLiteRunner, adversarial_examples, robustness

L = keras.layers
QUIET = {"show_progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")


@pytest.fixture(scope="module")
def trained():
    """A small classifier of two moons in 0..1, and its data."""
    from sklearn.datasets import make_moons

    keras.utils.set_random_seed(0)
    x, y = make_moons(300, noise=0.1, random_state=0)
    x = ((x - x.min(axis=0)) / np.ptp(x, axis=0)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), L.Dense(16, "relu"), L.BatchNormalization(), L.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss=loss, jit_compile=False)
    model.fit(x, y, epochs=15, verbose=0)
    return model, x, y


def test_a_linear_classifier_has_its_closed_form():
    """Correct under any attack if the margin exceeds `epsilon * |w|_1` (linf) or `epsilon * |w|_2` (l2)."""
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(5, 2)), rng.normal(size=2)
    model = keras.Sequential([keras.Input((5,)), L.Dense(2)])
    model.set_weights([weights, bias])
    x = rng.uniform(0.3, 0.7, (400, 5)).astype("float32")
    y = rng.integers(0, 2, 400)
    w, b = weights[:, 1] - weights[:, 0], bias[1] - bias[0]
    margin = (x @ w + b) * np.where(y, 1, -1)
    for norm, length in (("linf", np.abs(w).sum()), ("l2", np.linalg.norm(w))):
        result = robustness(model, x, y, 0.1, norm=norm, **QUIET)
        expected = (margin > 0.1 * length).mean()
        assert result.accuracies == pytest.approx({"clean": (margin > 0).mean(), "FGSM": expected, "PGD-20": expected})
        assert 0.02 < expected < (margin > 0).mean()


def test_logits_softmax_distiller_and_runner_agree(trained):
    model, x, y = trained
    softmax = keras.Sequential([model, L.Softmax()])
    distiller = kd.Distiller(keras.models.clone_model(model), model)
    results = [robustness(one, x, np.eye(2)[y], 0.05, **QUIET).accuracies for one in (model, softmax, distiller)] + [
        robustness(KerasRunner(model), x, y, 0.05, batch_size=77, **QUIET).accuracies
    ]
    assert all(result == pytest.approx(results[0], abs=0.01) for result in results)
    assert results[0]["clean"] > results[0]["FGSM"] + 0.02 and results[0]["FGSM"] >= results[0]["PGD-20"] - 0.01
    before = [variable.numpy() for variable in model.variables]
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_restarts_can_only_lower_the_accuracy_and_the_seed_decides(trained):
    model, x, y = trained
    attacks = {"PGD": PGD(0.05, steps=1, step_size=0.01)}
    one, same, three = (
        robustness(model, x, y, 0.05, attacks=attacks, restarts=restarts, **QUIET) for restarts in (1, 1, 5)
    )
    assert one == same and three.accuracies["PGD"] < one.accuracies["PGD"]
    moved = [adversarial_examples(model, x, y, PGD(0.05, steps=1, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert np.abs(moved[0] - moved[2]).max() > 0.01


def test_the_table(trained):
    model, x, y = trained
    text = str(robustness(model, x, y, 8 / 255, **QUIET))
    assert "300 examples, linf epsilon 0.0313725" in text
    assert [line.split()[0] for line in text.splitlines()[3:]] == ["clean", "FGSM", "PGD-20"]


def test_examples_without_a_label_are_left_out(trained):
    model, x, y = trained
    result = robustness(model, x, np.where(np.arange(300) < 100, y, -1), 0.05, **QUIET)
    assert result.num_examples == 100
    assert result.accuracies == robustness(model, x[:100], y[:100], 0.05, **QUIET).accuracies


def test_an_attack_of_ones_own(trained):
    model, x, y = trained
    result = robustness(model, x, y, 0.05, attacks={"own": lambda x, y: np.clip(x + 0.05, 0, 1)}, **QUIET)
    assert 0 < result.accuracies["own"] <= result.accuracies["clean"]
    for attack in (lambda x, y: x + 0.1, lambda x, y: x[:3], lambda x, y: np.full_like(x, np.nan)):
        with pytest.raises(ConfigurationError, match="'own' leaves what it may change"):
            robustness(model, x, y, 0.05, attacks={"own": attack}, **QUIET)


def test_a_file_is_attacked_through_its_keras_model(trained, tmp_path):
    model, x, y = trained
    kd.export.export_tflite(model, tmp_path / "net.tflite", isolate=False)
    runner = TFLiteRunner(tmp_path / "net.tflite")
    with pytest.raises(ConfigurationError, match="gradients_of"):
        robustness(runner, x, y, 0.05, **QUIET)
    result = robustness(runner, x, y, 0.05, gradients_of=model, **QUIET)
    assert result.accuracies == pytest.approx(robustness(model, x, y, 0.05, **QUIET).accuracies, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((3, 2), 2.0)}, "outside the adversary's value range"),
        ({"x": np.full((3, 2), np.nan)}, "outside the adversary's value range"),
        ({"x": np.zeros((3, 2), "uint8")}, "uint8"),
        ({"y": np.zeros(2, int)}, "differ in number"),
        ({"y": np.full(3, -1)}, "labeled examples"),
        ({"epsilon": 8}, "'epsilon'"),
        ({"restarts": 0}, "'restarts'"),
        ({"model": "net.keras"}, "cannot be measured"),
        ({"attacks": {"own": PGD(0.1, objective="adaptive_kl")}}, "needs a teacher"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    model = keras.Sequential([keras.Input((2,)), L.Dense(2)])
    given = {"model": model, "x": np.zeros((3, 2)), "y": np.zeros(3, int), "epsilon": 0.1, **QUIET, **change}
    with pytest.raises(ConfigurationError, match=message):
        robustness(**given)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the library reads TensorFlow's gradients")
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the library, about missing packages
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_attacks_of_another_library(trained, norm):
    """Adversarial Robustness Toolbox, step by step from the clean inputs; and its AutoAttack as a function."""
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is not installed")
    import tensorflow as tf
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    model, x, y = trained
    x, y = x[:80], y[:80]
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier = TensorFlowV2Classifier(model, 2, (2,), loss_object=loss, clip_values=(0.0, 1.0))
    settings = {"norm": np.inf if norm == "linf" else 2, "eps": 0.08}
    theirs = FastGradientMethod(classifier, **settings).generate(x, y)
    np.testing.assert_allclose(adversarial_examples(model, x, y, FGSM(0.08, norm=norm)), theirs, atol=1e-6)
    pgd = ProjectedGradientDescent(classifier, **settings, eps_step=0.02, max_iter=6, verbose=False)
    own = PGD(0.08, steps=6, step_size=0.02, random_start=False, norm=norm)
    np.testing.assert_allclose(adversarial_examples(model, x, y, own), pgd.generate(x, y), atol=1e-5)
