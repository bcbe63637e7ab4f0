"""`keras.distillation` compared with keras_kd: runs each row of the README's comparison.

python benchmarks/keras_distillation.py
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from common import markdown, write
from sklearn.datasets import load_digits

import keras_kd as kd

DIVERGENCE = keras.losses.KLDivergence()


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(width=8, activation=None, norm=False, dtype=None):
    body = [keras.layers.BatchNormalization()] if norm else []
    body += [keras.layers.Dense(width, "relu", dtype=dtype), keras.layers.Dense(10, activation=activation, dtype=dtype)]
    return keras.Sequential([keras.Input((64,)), *body])


def pair(which, teacher, student, loss="kl_divergence", compile_loss=None):
    """A compiled distiller of keras_kd or of Keras."""
    if which == "keras_kd":
        distiller = kd.Distiller(teacher, student, temperature=2.0)
    else:
        term = keras.distillation.LogitsDistillation(temperature=2.0, loss=loss)
        distiller = keras.distillation.Distiller(teacher, student, distillation_losses=term)
    distiller.compile("sgd", loss=compile_loss or from_logits(), metrics=["accuracy"])
    return distiller


def soft_target_value(which, x, y):
    """The default loss on one batch at temperature 2, and the formula's value in float64."""
    rng = np.random.default_rng(0)
    teacher, student = (rng.normal(size=(2, 32, 10)) * 3).astype("float32")
    p, q = (
        np.exp(z / 2.0) / np.exp(z / 2.0).sum(-1, keepdims=True) for z in (teacher.astype(float), student.astype(float))
    )
    expected = 4 * (p * np.log(p / q)).sum(-1).mean()
    if which == "keras_kd":
        value = kd.losses.SoftTargets(temperature=2.0)(teacher, student)
    else:
        value = keras.distillation.LogitsDistillation(temperature=2.0).compute_loss(teacher, student)
    return f"{float(value):.2f} (formula: {expected:.2f})"


def saturated_logits(which, x, y):
    """Teacher (60, -60), student (-60, 60), temperature 1: the loss is 120, and the gradient is not 0."""
    teacher, student = np.float32([[60, -60]]), tf.Variable(np.float32([[-60, 60]]))
    with tf.GradientTape() as tape:
        if which == "keras_kd":
            value = kd.losses.SoftTargets(temperature=1.0)(teacher, student)
        else:
            value = keras.distillation.LogitsDistillation(temperature=1.0, loss=DIVERGENCE).compute_loss(
                teacher, student
            )
    gradient = tape.gradient(value, student)
    return f"{float(value):.1f}, gradient {float(tf.reduce_max(tf.abs(gradient))):.2g}"


def evaluation(which, x, y):
    """Does `evaluate` change BatchNorm's statistics? Keras runs with its feature loss, where it does."""
    teacher, student = model(), model(norm=True)
    distiller = pair(which, teacher, student, DIVERGENCE)
    if which != "keras_kd":
        names = {"teacher_layer_name": teacher.layers[0].name, "student_layer_name": student.layers[1].name}
        term = keras.distillation.FeatureDistillation(loss="mse", **names)
        distiller = keras.distillation.Distiller(teacher, student, distillation_losses=term)
        distiller.compile("sgd", loss=from_logits())
    before = [w.copy() for w in student.get_weights()]
    distiller.evaluate(x[:64], y[:64], verbose=0)
    changed = any(np.any(a != b) for a, b in zip(before, student.get_weights(), strict=True))
    return "statistics change" if changed else "nothing changes"


def sample_weights(which, x, y):
    """Does a sample weight of 0 prevent an update?"""
    student = model()
    before = [w.copy() for w in student.get_weights()]
    pair(which, model(), student, DIVERGENCE).train_on_batch(x[:32], y[:32], sample_weight=np.zeros(32, "float32"))
    moved = any(np.any(a != b) for a, b in zip(before, student.get_weights(), strict=True))
    return "ignored" if moved else "applied"


def attempt(function):
    try:
        function()
        return "works"
    except Exception as error:
        return type(error).__name__


def unlabeled(which, x, y):
    return attempt(lambda: pair(which, model(), model(), DIVERGENCE).fit(x[:32], verbose=0))


def mixed_precision(which, x, y):
    """A float32 teacher and a mixed_float16 student."""
    return attempt(
        lambda: pair(which, model(), model(dtype="mixed_float16"), DIVERGENCE).fit(x[:32], y[:32], verbose=0)
    )


def training_on(which, x, y):
    """Saves, loads, and continues training."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = model()
        teacher.save(Path(folder) / "teacher.keras")
        given = Path(folder) / "teacher.keras" if which == "keras_kd" else teacher
        distiller = pair(which, given, model(), DIVERGENCE)
        distiller.fit(x[:32], y[:32], verbose=0)
        distiller.save(Path(folder) / "d.keras")
        return attempt(lambda: keras.models.load_model(Path(folder) / "d.keras").fit(x[:32], y[:32], verbose=0))


def student_on_digits(which, x, y):
    """Test accuracy of the small student after 30 epochs with the default loss, and the same seeds and steps."""
    keras.utils.set_random_seed(0)
    teacher = model(128)
    teacher.compile(keras.optimizers.Adam(1e-3), loss=from_logits())
    teacher.fit(x[:1200], y[:1200], epochs=30, verbose=0)
    keras.utils.set_random_seed(0)
    student = model(8)
    distiller = pair(which, teacher, student)
    distiller.compile(keras.optimizers.Adam(1e-3), loss=from_logits(), metrics=["accuracy"])
    distiller.fit(x[:1200], y[:1200], epochs=30, verbose=0)
    return f"{100 * kd.evaluation.accuracy(student.predict(x[1200:], verbose=0), y[1200:]):.1f}%"


ROWS = {
    "default soft-target loss of one batch": soft_target_value,
    "loss and gradient at logits of +-60": saturated_logits,
    "`evaluate` and BatchNorm (Keras: with a feature loss)": evaluation,
    "`sample_weight`": sample_weights,
    "batches without labels": unlabeled,
    "float32 teacher, mixed_float16 student": mixed_precision,
    "`fit` after saving and loading": training_on,
    "student with 8 hidden units on the digits, default loss": student_on_digits,
}


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.simplefilter("ignore")
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    results = {
        name: {which: run(which, x, y) for which in ("keras.distillation", "keras_kd")} for name, run in ROWS.items()
    }
    rows = [[name, result["keras.distillation"], result["keras_kd"]] for name, result in results.items()]
    write("keras_distillation", {"rows": results}, markdown(["", "keras.distillation", "keras_kd"], rows))


if __name__ == "__main__":
    main()
