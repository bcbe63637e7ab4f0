"""The part of `regimes.py` on adversarial examples: Fashion-MNIST at half resolution, perturbed by up to 0.1 of 0..1.

Students are convolutional networks without batch normalization. The teacher is one of twice the width, trained by
TRADES. Every training takes the same number of steps with an attack of 7 steps; those of one seed start from the same
weights and see the same batches. Accuracies are of the same 5,000 test images, clean and perturbed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from images import Images, halve, read
from keras import layers
from losses import from_logits

import keras_kd as kd
from ways.bench import Bench, Part, Training

BATCH_SIZE = 100
EPSILON = 0.1
BETA = 6.0
ALPHA, TEMPERATURE = 0.9, 4.0  # of ARD
RATE = 2e-3


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    data: str
    num_images: int
    num_test: int
    epochs: int
    attack_steps: int


def open_bench(folder: Path, quick: bool, state: Path, record: Path) -> Bench:
    settings = Settings("fashion_mnist", *((300, 100, 1, 2) if quick else (10_000, 5_000, 8, 7)))
    arrays = read(folder, settings.data)
    x, x_test = (halve(arrays[name]) / np.float32(255) for name in ("x_train", "x_test"))
    y, y_test = (arrays[name].astype("int64") for name in ("y_train", "y_test"))
    train, test = slice(settings.num_images), slice(settings.num_test)
    return Bench(settings, Images(x[train], y[train], x_test[test], y_test[test]), state / "robust", record)


def network(seed: int, width: int = 16) -> keras.Model:
    keras.utils.set_random_seed(seed)
    body = [
        layers.Conv2D(factor * width, 3, strides=strides, padding="same", activation="relu")
        for factor, strides in ((1, 1), (2, 2), (4, 2))
    ]
    head = [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((14, 14, 1)), *body, *head])


def attack(bench: Bench, objective: str = "cross_entropy") -> kd.adversaries.PGD:
    start = 0.001 if objective == "kl" else True  # as published
    return kd.adversaries.PGD(EPSILON, steps=bench.settings.attack_steps, objective=objective, random_start=start)


def train(bench: Bench, seed: int, name: str, model: keras.Model) -> None:
    batches = kd.data.Pipeline((bench.images.x, bench.images.y), batch_size=BATCH_SIZE, seed=seed)
    epochs = bench.settings.epochs
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * batches.steps_per_epoch)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=from_logits(), jit_compile=False)
    bench.fit(model, batches, epochs, f"{name}-{seed}")


def measured(bench: Bench, model: keras.Model) -> dict[str, float]:
    images = bench.images
    found = kd.evaluation.robustness(model, images.x_test, images.y_test, EPSILON, show_progress=False).accuracies
    return {"clean": found["clean"], "fgsm": found["FGSM"], "pgd": found["PGD-20"]}


def trained_teacher(bench: Bench) -> keras.Model:
    def make() -> keras.Model:
        teacher = network(0, width=32)
        train(bench, 0, "teacher", kd.AdversarialTraining(teacher, attack(bench, "kl"), beta=BETA))
        return teacher

    return bench.kept("teacher-0", make)


def teacher(bench: Bench, seed: int) -> dict[str, float]:
    return measured(bench, trained_teacher(bench))


def ordinary(bench: Bench, seed: int) -> dict[str, float]:
    student = network(seed)
    train(bench, seed, "ordinary", student)
    return measured(bench, student)


def adversarial(bench: Bench, seed: int, name: str, objective: str, beta: float | None) -> dict[str, float]:
    student = network(seed)
    train(bench, seed, name, kd.AdversarialTraining(student, attack(bench, objective), beta=beta))
    return measured(bench, student)


def ard(bench: Bench, seed: int) -> dict[str, float]:
    settings = {"alpha": ALPHA, "temperature": TEMPERATURE, "adversary": attack(bench)}
    return distilled(bench, seed, "ard", settings)


def rslad(bench: Bench, seed: int) -> dict[str, float]:
    soft, weighted = kd.losses.SoftTargets, kd.losses.Weighted
    losses = [weighted(soft(student="adversarial"), 5 / 6), weighted(soft(), 1 / 6)]
    settings = {"alpha": 1.0, "temperature": 1.0, "losses": losses, "adversary": attack(bench, "kl")}
    return distilled(bench, seed, "rslad", settings)


def distilled(bench: Bench, seed: int, name: str, settings: dict[str, Any]) -> dict[str, float]:
    student = network(seed)
    train(bench, seed, name, kd.Distiller(trained_teacher(bench), student, **settings))
    return measured(bench, student)


ROBUST = Part(
    "Fashion-MNIST, perturbed by up to 0.1: a convolutional network",
    open_bench,
    {
        "teacher": Training("the teacher, twice as wide, by TRADES", teacher, once=True),
        "ordinary": Training("trained on clean images", ordinary),
        "madry": Training(
            "on perturbed images", lambda bench, seed: adversarial(bench, seed, "madry", "cross_entropy", None)
        ),
        "trades": Training("TRADES", lambda bench, seed: adversarial(bench, seed, "trades", "kl", BETA)),
        "ard": Training("ARD, from the teacher", ard),
        "rslad": Training("RSLAD, from the teacher", rslad),
    },
    {"clean %": "clean", "FGSM %": "fgsm", "PGD-20 %": "pgd"},
    (("ard", "trades"), ("rslad", "trades")),
)
