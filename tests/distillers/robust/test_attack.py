"""Robust distillation on any backend: losses and gradients against float64 NumPy, independence of examples, resuming.

`test_attack_on_jax.py` runs this file again on JAX.
"""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.adversaries import FGSM, PGD
from keras_kd.errors import ConfigurationError
from keras_kd.losses import SoftTargets, Weighted
from keras_kd.teachers import Batch

L = keras.layers
NUM_CLASSES, EPSILON = 4, 0.1
FAST = {} if keras.backend.backend() == "jax" else {"jit_compile": False}
pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
STILL = {"random_start": False, "steps": 3}


def linear(seed=0, activation=None):
    model = keras.Sequential([keras.Input((6,)), L.Dense(NUM_CLASSES, activation=activation)])
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=(6, NUM_CLASSES)), rng.normal(size=NUM_CLASSES)])
    return model


def network(*, norm=True, dropout=0.0):
    body = [L.Dense(8)] + ([L.BatchNormalization()] if norm else []) + [L.ReLU(), L.Dropout(dropout)]
    return keras.Sequential([keras.Input((6,)), *body, L.Dense(NUM_CLASSES)])


def twin(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    return rng.uniform(size=(12, 6)).astype("float32"), rng.integers(0, NUM_CLASSES, 12)


def compiled(distiller, rate=0.0, loss=None, **settings):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(rate), loss=loss, **{**FAST, **settings})
    return distiller


def perturbed(distiller, x, y=None, **parts):
    batch = Batch(x, y, **parts)
    batch, targets = distiller.attack(batch, distiller.teach(batch), step=0)
    return np.asarray(batch.adversarial), targets


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def outputs(weights, x):
    return x.astype("float64") @ weights[0].astype("float64") + weights[1].astype("float64")


def kl(z, w, temperature=1.0):
    p, q = log_softmax(z / temperature), log_softmax(w / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(axis=-1).mean()


def cross_entropy(z, y):
    return -log_softmax(z)[np.arange(len(y)), y].mean()


REGIMES = {
    "ard": lambda t, s: kd.Distiller(t, s, alpha=0.7, temperature=3.0, adversary=PGD(EPSILON, **STILL)),
    "rslad": lambda t, s: kd.Distiller(
        t,
        s,
        alpha=1.0,
        temperature=1.0,
        losses=[Weighted(SoftTargets(student="adversarial"), 5 / 6), Weighted(SoftTargets(), 1 / 6)],
        adversary=PGD(EPSILON, objective="kl", **STILL),
    ),
    "adaad": lambda t, s: kd.Distiller(
        t,
        s,
        alpha=1.0,
        temperature=1.0,
        losses=SoftTargets(teacher="adversarial", student="adversarial"),
        adversary=PGD(EPSILON, objective="adaptive_kl", **STILL),
    ),
    "madry": lambda t, s: kd.AdversarialTraining(s, PGD(EPSILON, **STILL)),
    "trades": lambda t, s: kd.AdversarialTraining(
        s, PGD(EPSILON, objective="kl", steps=3, random_start=0.001), beta=6.0
    ),
}


def loss_of(name, teacher, student, x, moved, y):
    """The published loss, from weights and perturbed inputs."""
    t, t_moved, s, s_moved = (outputs(w, v) for w in (teacher, student) for v in (x, moved))
    return {
        "ard": lambda: 0.7 * kl(t, s_moved, 3.0) + 0.3 * cross_entropy(s, y),
        "rslad": lambda: 5 / 6 * kl(t, s_moved) + 1 / 6 * kl(t, s),
        "adaad": lambda: kl(t_moved, s_moved),
        "madry": lambda: cross_entropy(s_moved, y),
        "trades": lambda: cross_entropy(s, y) + 6 * kl(s, s_moved),
    }[name]()


@pytest.mark.parametrize("name", REGIMES)
def test_loss_and_gradient_as_published(name, data):
    """Against float64, at the same perturbed inputs; gradients by central differences."""
    x, y = data
    teacher, student = linear(1), linear(2)
    distiller = compiled(REGIMES[name](teacher, student), rate=1.0)
    before, of_teacher = [w.astype("float64") for w in student.get_weights()], teacher.get_weights()
    moved, _ = perturbed(distiller, x, y)
    assert 0.5 * EPSILON < np.abs(moved - x).max() <= EPSILON + 1e-6
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(loss_of(name, of_teacher, before, x, moved, y), rel=2e-5)
    step = before[0] - student.get_weights()[0]
    for at in ((0, 0), (3, 2), (5, 3)):
        ends = []
        for shift in (1e-5, -1e-5):
            weights = [before[0].copy(), before[1]]
            weights[0][at] += shift
            ends.append(loss_of(name, of_teacher, weights, x, moved, y))
        assert step[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-5), at


def test_the_default_objective_attacks_the_labels(data):
    """One step on softmax regression: `x + epsilon * sign(W (q - y))`."""
    x, y = data
    student = linear(2)
    distiller = compiled(kd.Distiller(linear(1), student, adversary=FGSM(EPSILON)))
    weights = student.get_weights()
    slope = (np.exp(log_softmax(outputs(weights, x))) - np.eye(NUM_CLASSES)[y]) @ weights[0].T
    np.testing.assert_allclose(perturbed(distiller, x, y)[0], np.clip(x + EPSILON * np.sign(slope), 0, 1), atol=1e-6)
    one_hot = np.eye(NUM_CLASSES, dtype="float32")[y]
    np.testing.assert_array_equal(perturbed(distiller, x, one_hot)[0], perturbed(distiller, x, y)[0])


def test_kl_goes_away_from_the_teacher(data):
    x, _ = data
    teacher, student = linear(1), linear(2)
    distiller = compiled(kd.Distiller(teacher, student, adversary=FGSM(EPSILON, objective="kl")))
    p, q = (np.exp(log_softmax(outputs(model.get_weights(), x))) for model in (teacher, student))
    slope = (q - p) @ student.get_weights()[0].T
    np.testing.assert_allclose(perturbed(distiller, x)[0], np.clip(x + EPSILON * np.sign(slope), 0, 1), atol=1e-6)


def test_a_tiny_epsilon_changes_nothing(data):
    x, y = data
    teacher, student = network(), network()
    plain = compiled(kd.Distiller(teacher, twin(student)))
    robust = compiled(kd.Distiller(teacher, student, adversary=PGD(1e-7)))
    expected = plain.train_on_batch(x, y, return_dict=True)
    logs = robust.train_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert logs["soft_targets_adversarial"] == pytest.approx(expected["soft_targets"], rel=1e-4)


def test_a_model_that_ends_in_a_softmax_is_attacked_at_its_logits(data):
    x, y = data
    of_logits, of_softmax = linear(2), linear(2, "softmax")
    one = compiled(kd.AdversarialTraining(of_logits, PGD(EPSILON, **STILL)))
    other = compiled(kd.AdversarialTraining(of_softmax, PGD(EPSILON, **STILL)), loss="sparse_categorical_crossentropy")
    np.testing.assert_allclose(perturbed(one, x, y)[0], perturbed(other, x, y)[0], atol=1e-6)


def test_an_example_is_perturbed_in_the_same_way_in_any_batch(data):
    """In inference mode: the moving statistics of the normalization decide, and dropout is off."""
    x, y = data
    distiller = compiled(kd.Distiller(linear(1), network(dropout=0.5), adversary=PGD(EPSILON, **STILL)), rate=0.1)
    distiller.train_on_batch(x, y)
    together, _ = perturbed(distiller, x, y)
    alone = [perturbed(distiller, x[i : i + 1], y[i : i + 1])[0] for i in range(len(x))]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    others = x.copy()
    others[6:] = 0.5
    np.testing.assert_allclose(perturbed(distiller, others, y)[0][:6], together[:6], atol=1e-6)


@pytest.mark.parametrize("name", ["madry", "trades", "ard"])
def test_only_the_passes_that_are_read_update_the_moving_statistics(name, data):
    x, y = data
    student = network()
    distiller = compiled(REGIMES[name](linear(1), student))
    moved, _ = perturbed(distiller, x, y)
    kernel, bias = student.layers[0].get_weights()
    mean = np.zeros(8)
    for inputs in [moved] if name == "madry" else [moved, x]:
        mean = 0.99 * mean + 0.01 * (inputs @ kernel + bias).mean(axis=0)
    distiller.train_on_batch(x, y)
    np.testing.assert_allclose(student.layers[1].get_weights()[2], mean, atol=1e-6)


def test_a_pass_that_nobody_reads_is_not_run(data):
    x, y = data
    traces = []

    class Counting(L.Layer):
        def call(self, inputs, training=None):
            traces.append(bool(training))
            return inputs

    def passes(**settings):
        student = keras.Sequential([keras.Input((6,)), Counting(), L.Dense(NUM_CLASSES)])
        distiller = kd.Distiller(linear(1), student, adversary=FGSM(EPSILON), **settings)
        distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        batch = Batch(x, y)
        distiller.train_on_batch(x, y)
        batch, targets = distiller.attack(batch, distiller.teach(batch), step=0)
        traces.clear()
        distiller.loss_and_parts(batch, targets, step=0)
        return len(traces)

    assert passes() == 2
    assert passes(supervise="adversarial") == 1


def test_examples_without_a_label_are_attacked_at_the_teachers_top_class(data):
    x, y = data
    teacher, student = linear(1), linear(2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    distiller = compiled(kd.Distiller(teacher, student, adversary=FGSM(EPSILON)), loss=loss)
    missing = np.where(np.arange(12) % 2, y, -1)
    top = np.where(missing == -1, outputs(teacher.get_weights(), x).argmax(axis=1), y)
    np.testing.assert_array_equal(perturbed(distiller, x, missing)[0], perturbed(distiller, x, top)[0])


def test_rows_of_weight_zero_have_no_influence(data):
    x, y = data
    wild = x.copy()
    wild[8:] = 5.0
    weight = np.where(np.arange(12) < 8, 1.0, 0.0).astype("float32")
    results = []
    for inputs in (x, wild):
        student = linear(2)
        distiller = compiled(kd.Distiller(linear(1), student, adversary=PGD(EPSILON, **STILL)), rate=0.5)
        batch = distiller.prepare_batch((inputs, y, weight))
        batch, targets = distiller.attack(batch, distiller.teach(batch), step=0)
        results.append(float(distiller.loss_and_parts(batch, targets, step=0).loss))
    assert np.isfinite(results).all() and results[0] == pytest.approx(results[1], rel=1e-6)


def batches(x, y):
    yield x, y


def test_inputs_outside_the_value_range(data):
    x, y = data
    normalized = (x - 0.5) / 0.3
    distiller = compiled(kd.Distiller(linear(1), linear(2), adversary=PGD(EPSILON)))
    for call in (distiller.fit, distiller.train_on_batch):
        with pytest.raises(ConfigurationError, match="outside the adversary's value range.*Normalization"):
            call(normalized, y)
    history = distiller.fit(batches(normalized, y), steps_per_epoch=1, shuffle=False, verbose=0).history
    assert np.isnan(history["loss"][0]) and history["outside_value_range"][0] > 0.5


def test_a_batch_without_labels(data):
    x, _ = data
    with pytest.raises(ConfigurationError, match="the batch has none.*objective='kl'"):
        compiled(kd.Distiller(linear(1), linear(2), adversary=PGD(EPSILON))).train_on_batch(x)
    with pytest.raises(ConfigurationError, match="nothing to train on.*beta"):
        adversary = PGD(EPSILON, objective="kl")
        compiled(kd.AdversarialTraining(linear(2), adversary)).train_on_batch(x)
    logs = compiled(REGIMES["rslad"](linear(1), linear(2))).train_on_batch(x, return_dict=True)
    assert np.isfinite(logs["loss"])
    logs = compiled(REGIMES["trades"](linear(1), linear(2))).train_on_batch(x, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["divergence"], rel=1e-6)


def test_integer_inputs_are_refused(data):
    x, y = data
    with pytest.raises(ConfigurationError, match="uint8.*/ 255"):
        compiled(kd.Distiller(linear(1), linear(2), adversary=PGD(EPSILON))).fit((255 * x).astype("uint8"), y)


def test_a_random_start_resumes(data, tmp_path):
    """The start depends on seed and step, so a loaded distiller repeats the one that was never stopped."""
    x, y = data
    linear(1).save(tmp_path / "teacher.keras")

    def fit(distiller):
        distiller.fit(x, y, batch_size=4, shuffle=False, verbose=0)

    teacher = tmp_path / "teacher.keras"
    distiller = compiled(kd.Distiller(teacher, linear(2), adversary=PGD(EPSILON, seed=3)), rate=0.1)
    fit(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.adversary == distiller.adversary and loaded.supervise == "clean"
    for one in (distiller, loaded):
        fit(one)
    for one, other in zip(distiller.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    first, again = (distiller.adversary.start(keras.ops.convert_to_tensor(x), step) for step in (3, 4))
    assert np.abs(np.asarray(first) - np.asarray(again)).max() > 0.01


@pytest.mark.parametrize("beta", [None, 6.0, kd.schedules.Linear(0.0, 6.0, steps=10)])
def test_adversarial_training_is_saved(beta, data, tmp_path):
    adversary = PGD(EPSILON, objective="kl", steps=2)
    training = compiled(kd.AdversarialTraining(linear(2), adversary, beta=beta), rate=0.1)
    training.save(tmp_path / "t.keras")
    loaded = keras.models.load_model(tmp_path / "t.keras")
    assert (loaded.beta, loaded.adversary, loaded.supervise) == (beta, adversary, training.supervise)
    logs = [one.train_on_batch(*data, return_dict=True) for one in (training, loaded)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)
    assert set(logs[0]) == {"loss", "student_loss", "outside_value_range"} | ({"divergence"} if beta else set())


def test_beta_takes_effect_at_the_next_step(data):
    training = compiled(REGIMES["trades"](None, linear(2)))
    logs = []
    for beta in (6.0, 0.0, 12.0):
        training.beta = beta
        logs.append(training.train_on_batch(*data, return_dict=True))
        training.reset_metrics()
    assert logs[1]["loss"] == pytest.approx(logs[1]["student_loss"], rel=1e-6)
    assert logs[2]["divergence"] == pytest.approx(2 * logs[0]["divergence"], rel=0.1)
    with pytest.raises(ConfigurationError, match="no divergence"):
        REGIMES["madry"](None, linear(2)).beta = 1.0


def test_another_adversary_takes_effect_at_the_next_step(data):
    x, y = data
    distiller = compiled(REGIMES["madry"](None, linear(2)))
    losses = []
    for epsilon in (0.01, 0.2):
        distiller.adversary = PGD(epsilon, **STILL)
        losses.append(distiller.train_on_batch(x, y, return_dict=True)["loss"])
        distiller.reset_metrics()
    assert losses[1] > losses[0] + 0.1
    with pytest.raises(ConfigurationError, match="replaced by another"):
        distiller.adversary = None
    with pytest.raises(ConfigurationError, match="replaced by another"):
        kd.Distiller(linear(1), linear(2)).adversary = FGSM(0.1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, data):
    keras.config.set_dtype_policy(policy)
    try:
        student = network()
    finally:
        keras.config.set_dtype_policy("float32")
    distiller = compiled(kd.Distiller(network(), student, adversary=PGD(EPSILON)), rate=0.1)
    logs = distiller.fit(*data, batch_size=6, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    moved, _ = perturbed(distiller, *data)
    assert np.abs(moved - data[0]).max() <= EPSILON + 1e-6


def test_a_pruned_student(data):
    """Its layers keep state of their own, which the attack must not carry out of its inner trace."""
    student = kd.compression.Pruning(sparsity=0.5).apply(network())
    distiller = compiled(kd.Distiller(linear(1), student, adversary=PGD(EPSILON)), rate=0.1)
    assert np.isfinite(distiller.fit(*data, batch_size=6, epochs=2, verbose=0).history["loss"]).all()


def two_inputs():
    one, other = keras.Input((3,)), keras.Input((3,))
    return keras.Model([one, other], L.Dense(NUM_CLASSES)(L.Concatenate()([one, other])))


def two_outputs():
    inputs = keras.Input((6,))
    return keras.Model(inputs, {"a": L.Dense(NUM_CLASSES)(inputs), "b": L.Dense(NUM_CLASSES)(inputs)})


def binary():
    return keras.Sequential([keras.Input((6,)), L.Dense(1, activation="sigmoid")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kd.Distiller(linear(), linear(), adversary="pgd"), "adversary.*'pgd'"),
        (lambda: kd.Distiller(linear(), linear(), supervise="adversarial"), "no adversarial examples"),
        (lambda: kd.Distiller(linear(), linear(), adversary=FGSM(0.1), supervise="both"), "'supervise'"),
        (lambda: kd.Distiller(linear(), linear(), losses=SoftTargets(), adversary=FGSM(0.1)), "has no effect"),
        (lambda: kd.Distiller(linear(), linear(), losses=SoftTargets(student="adversarial")), "adversarial"),
        (lambda: kd.Distiller(two_inputs(), two_inputs(), adversary=FGSM(0.1)), "2 inputs"),
        (lambda: kd.Distiller(two_outputs(), two_outputs(), adversary=FGSM(0.1)), "2 outputs"),
        (lambda: kd.Distiller(binary(), binary(), adversary=FGSM(0.1)), "exclusive classes"),
        (lambda: kd.AdversarialTraining(linear(), None), "needs an adversary"),
        (lambda: kd.AdversarialTraining(linear(), FGSM(0.1, objective="kl"), beta=6.0), "no gradient at the clean"),
        (lambda: kd.AdversarialTraining(linear(), PGD(0.1, objective="adaptive_kl")), "Without a teacher"),
        (lambda: kd.AdversarialTraining(linear(), PGD(0.1), beta=-1.0), "weight"),
        (lambda: compiled(kd.Distiller(linear(), linear(), adversary=FGSM(0.1)), loss="mse"), "exclusive classes"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_teacher_outside_the_step_has_no_outputs_for_perturbed_inputs(adaptive):
    teacher = kd.teachers.FunctionTeacher(lambda x: np.zeros((len(x), NUM_CLASSES), "float32"), num_classes=NUM_CLASSES)
    objective = "adaptive_kl" if adaptive else "kl"
    losses = SoftTargets(teacher=None if adaptive else "adversarial", student="adversarial")
    with pytest.raises(ConfigurationError, match="outside the training step"):
        kd.Distiller(teacher, linear(), losses=losses, adversary=PGD(0.1, objective=objective))
