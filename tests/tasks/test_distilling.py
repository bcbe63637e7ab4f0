"""The Distiller with the losses of the tasks: its default term, and alpha 1 for missing labels."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import tasks
from keras_kd.losses import OutputRegression, SoftTargets

rng = np.random.default_rng(11)
X = rng.normal(size=(6, 4)).astype("float32")
HOT = rng.integers(0, 2, (6, 3)).astype("float32")
TARGETS = rng.normal(size=(6, 3)).astype("float32")
for labels, mark in ((HOT, -1), (TARGETS, np.nan)):
    labels[1] = mark
    labels[4, 2] = mark


def linear(seed, *, units=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])


def log_sigmoid(z):
    return -np.logaddexp(0, -z)


def soft_binary(teacher, student, temperature):
    teacher, student = teacher / temperature, student / temperature
    p = 1 / (1 + np.exp(-teacher))
    first = p * (log_sigmoid(teacher) - log_sigmoid(student))
    second = (1 - p) * (log_sigmoid(-teacher) - log_sigmoid(-student))
    return temperature**2 * (first + second).mean(-1)


@pytest.mark.parametrize("name", ["multi_label", "regression"])
def test_rows_without_a_label_learn_from_the_teacher_alone(name):
    teacher, student = linear(1), linear(2)
    z_t, z = (np.asarray(model(X), "float64") for model in (teacher, student))
    if name == "regression":
        labels = TARGETS
        known = ~np.isnan(labels)
        values, term = np.where(known, (z - np.nan_to_num(labels)) ** 2, 0), ((z - z_t) ** 2).mean(-1)
    else:
        labels = HOT
        known = labels >= 0
        values, term = np.where(known, -log_sigmoid(np.where(labels == 1, z, -z)), 0), soft_binary(z_t, z, 2.0)
    supervised = (values.sum(-1) / np.maximum(known.sum(-1), 1)).mean()
    alpha = np.where(known.any(-1), 0.3, 1.0)
    distiller = kd.Distiller(teacher, student, alpha=0.3, temperature=2.0)
    task = tasks.get(name)
    distiller.compile("sgd", loss=task.loss(from_logits=True), metrics=task.metrics(from_logits=True))
    logs = distiller.train_on_batch(X, labels, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(0.7 * supervised + (alpha * term).mean(), rel=1e-4)
    assert np.isfinite(float(logs[task.curve]))
    assert np.isfinite(np.asarray(student(X))).all()


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("classification", (3,), SoftTargets),
        ("multi_label", (3,), SoftTargets),
        ("regression", (3,), OutputRegression),
        ("segmentation", (5, 4, 3), SoftTargets),
        ("token_classification", (5, 3), SoftTargets),
    ],
)
def test_the_default_term_follows_the_loss_of_the_task(name, shape, kind):
    task = tasks.get(name)
    models = [keras.Sequential([keras.Input((*shape[:-1], 2)), keras.layers.Dense(3)]) for _ in range(2)]
    distiller = kd.Distiller(*models)
    distiller.compile("sgd", loss=task.loss(from_logits=True))
    (term,) = distiller.terms
    assert type(term) is kind
    if kind is SoftTargets:
        assert term.get_config()["activation"] == ("sigmoid" if name == "multi_label" else "softmax")
