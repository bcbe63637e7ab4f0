"""The part of `regimes.py` on transfer: CIFAR-10 at half resolution, from classes 0 to 4 to classes 5 to 9.

A resnet8, and a resnet20 as the teacher, learn the first five classes from all of their 12,500 images. Fifty images of
the other five have labels, ten of each class, chosen by the seed; the test images are the 5,000 of these classes. All
trainings for the new classes take the same number of steps on the same images, moved and flipped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from images import Images, accuracy, standardized

import keras_kd as kd
from keras_kd.data.stratify import stratified_choice
from ways.bench import Bench, Part, Training, compiled

NUM_CLASSES = 5
RATE_OF_TUNING = 0.2  # of the usual


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    data: str
    num_images: int | None
    num_labels: int
    epochs: int
    epochs_of_tuning: int


class Transfer(Bench):
    """The images of the old classes, in `old`, and of the new ones."""

    def __init__(self, settings: Settings, images: Images, state: Path, record: Path):
        x, y, x_test, y_test = images
        self.old = Images(x[y < NUM_CLASSES], y[y < NUM_CLASSES], x_test[y_test < NUM_CLASSES], y_test)
        new, of_test = y >= NUM_CLASSES, y_test >= NUM_CLASSES
        found = Images(x[new], y[new] - NUM_CLASSES, x_test[of_test], y_test[of_test] - NUM_CLASSES)
        super().__init__(settings, found, state, record)


def open_bench(folder: Path, quick: bool, state: Path, record: Path) -> Bench:
    settings = Settings("cifar10_25k_packed", *((600, 50, 1, 4) if quick else (None, 50, 8, 400)))
    images = standardized(folder, settings.data, settings.num_images)
    return Transfer(settings, images, state / "transfer", record)


def batches_of(x: np.ndarray, y: np.ndarray, seed: int, batch_size: int) -> Any:
    return kd.data.Pipeline((x, y), augment=[kd.data.PadAndCrop(2), kd.data.Flip()], batch_size=batch_size, seed=seed)


def trained(bench: Transfer, name: str) -> keras.Model:
    """A model of the old classes."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = kd.models.build(name, input_shape=bench.old.x.shape[1:], num_classes=NUM_CLASSES)
        batches, epochs = batches_of(bench.old.x, bench.old.y, 0, 100), bench.settings.epochs
        bench.fit(compiled(model, epochs * batches.steps_per_epoch), batches, epochs, f"old-{name}")
        return model

    return bench.kept(f"old-{name}", make)


def tune(bench: Transfer, seed: int, name: str, model: keras.Model, *callbacks: Any, scale: float = 1.0) -> None:
    """Trains on the labeled images of the new classes."""
    keep = stratified_choice(bench.images.y, bench.settings.num_labels, seed)
    batches = batches_of(bench.images.x[keep], bench.images.y[keep], seed, bench.settings.num_labels)
    epochs = bench.settings.epochs_of_tuning
    compiled(model, epochs * batches.steps_per_epoch, scale=scale)
    bench.fit(model, batches, epochs, f"{name}-{seed}", *callbacks)


def with_new_head(bench: Transfer, seed: int, name: str = "resnet8") -> keras.Model:
    model = trained(bench, name)
    keras.utils.set_random_seed(seed)
    return kd.transfer.replace_head(model, num_classes=NUM_CLASSES, activation="linear")


def scratch(bench: Transfer, seed: int) -> dict[str, float]:
    keras.utils.set_random_seed(seed)
    model = kd.models.build("resnet8", input_shape=bench.images.x.shape[1:], num_classes=NUM_CLASSES)
    tune(bench, seed, "scratch", model)
    return {"accuracy": accuracy(model, bench.images)}


def head(bench: Transfer, seed: int) -> dict[str, float]:
    model = with_new_head(bench, seed)
    kd.transfer.freeze(model, until="stage_3")
    tune(bench, seed, "head", model)
    return {"accuracy": accuracy(model, bench.images)}


def whole(bench: Transfer, seed: int) -> dict[str, float]:
    model = with_new_head(bench, seed)
    tune(bench, seed, "whole", model, scale=RATE_OF_TUNING)
    return {"accuracy": accuracy(model, bench.images)}


def gradual(bench: Transfer, seed: int) -> dict[str, float]:
    model = with_new_head(bench, seed)
    quarter = bench.settings.epochs_of_tuning // 4
    boundaries = {0: "stage_3", quarter: "stage_2", 2 * quarter: "stage_1", 3 * quarter: None}
    unfreezing = kd.transfer.unfreeze_gradually(boundaries)
    tune(bench, seed, "gradual", model, unfreezing, scale=RATE_OF_TUNING)
    return {"accuracy": accuracy(model, bench.images)}


def adapted_teacher(bench: Transfer, seed: int) -> keras.Model:
    """The teacher with a new head for the same fifty labels, the rest frozen."""

    def make() -> keras.Model:
        model = with_new_head(bench, seed, "resnet20")
        kd.transfer.freeze(model, until="stage_3")
        tune(bench, seed, "adapted", model)
        return model

    model = bench.kept(f"adapted-{seed}", make)
    model.trainable = True
    return model


def teacher(bench: Transfer, seed: int) -> dict[str, float]:
    return {"accuracy": accuracy(adapted_teacher(bench, seed), bench.images)}


def fading(bench: Transfer, seed: int) -> dict[str, float]:
    """A student of the old classes under the adapted teacher, whose weight decays to 0."""
    adapted, student = adapted_teacher(bench, seed), with_new_head(bench, seed)
    alpha = kd.schedules.Cosine(0.9, 0.0, steps=bench.settings.epochs_of_tuning)
    tune(bench, seed, "fading", kd.Distiller(adapted, student, alpha=alpha), scale=RATE_OF_TUNING)
    return {"accuracy": accuracy(student, bench.images)}


TRANSFER = Part(
    "CIFAR-10, from five classes to five others by 50 labels: a resnet8",
    open_bench,
    {
        "teacher": Training("the teacher, resnet20: its head", teacher),
        "scratch": Training("from scratch", scratch),
        "head": Training("its head", head),
        "whole": Training("the whole model at once", whole),
        "gradual": Training("the head first, then stage by stage", gradual),
        "fading": Training("the whole model, under the adapted teacher, whose weight decays", fading),
    },
    {"test accuracy %": "accuracy"},
    (("head", "scratch"), ("gradual", "head"), ("fading", "whole")),
)
