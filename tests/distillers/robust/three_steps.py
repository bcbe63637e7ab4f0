"""Three robust training steps from stored weights, on any backend: `python three_steps.py folder`."""

import sys
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_kd as kd
from keras_kd.adversaries import PGD
from keras_kd.errors import Notice
from keras_kd.losses import SoftTargets, Weighted

L = keras.layers
NUM_CLASSES, EPSILON, STILL = 3, 0.1, {"random_start": False, "steps": 3}
NAMES = ("ard", "rslad", "adaad", "madry")


def model(width):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L.Conv2D(width, 3, use_bias=False),
            L.BatchNormalization(),
            L.Activation("gelu"),  # smooth: the sign of a gradient does not depend on rounding at a kink
            L.Flatten(),
            L.Dense(NUM_CLASSES, activity_regularizer=keras.regularizers.L2(0.01)),
        ]
    )


def make(name):
    teacher, student = model(5), model(3)
    adversarial = {"student": "adversarial"}
    if name == "madry":
        return teacher, kd.AdversarialTraining(student, PGD(EPSILON, **STILL))
    settings = {
        "ard": {"adversary": PGD(EPSILON, **STILL)},
        "rslad": {
            "adversary": PGD(EPSILON, objective="kl", norm="l2", **STILL),
            "losses": [Weighted(SoftTargets(**adversarial), 5 / 6), Weighted(SoftTargets(), 1 / 6)],
        },
        "adaad": {
            "adversary": PGD(EPSILON, objective="adaptive_kl", **STILL),
            "losses": [SoftTargets(teacher="adversarial", **adversarial)],
        },
    }[name]
    return teacher, kd.Distiller(teacher, student, **settings)


def write_weights(folder):
    """The weights that both backends start from."""
    for name in NAMES:
        teacher, distiller = make(name)
        np.savez(folder / f"{name}.npz", *teacher.get_weights(), *distiller.get_weights())


def run(folder):
    """Weights and losses after three steps, by name."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(8, 6, 6, 1)).astype("float32"), rng.integers(0, NUM_CLASSES, 8)
    results = {}
    for name in NAMES:
        teacher, distiller = make(name)
        with np.load(folder / f"{name}.npz") as stored:
            initial = list(stored.values())
        teacher.set_weights(initial[: len(teacher.weights)])
        distiller.set_weights(initial[len(teacher.weights) :])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.05), loss=loss)
        losses = [float(distiller.train_on_batch(x, y, return_dict=True)["loss"]) for _ in range(3)]
        results[name] = [*distiller.get_weights(), np.array(losses)]
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore", Notice)
    folder = Path(sys.argv[1])
    for name, values in run(folder).items():
        np.savez(folder / f"{name}_trained.npz", *values)
