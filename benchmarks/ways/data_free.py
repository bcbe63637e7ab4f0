"""The part of `regimes.py` without data: MNIST, from a LeNet-5 to one of half the width.

The LeNet-5 has ReLU and max pooling; images are 28x28 with mean 0 and standard deviation 1. DAFL trains its generator
and the student on the teacher alone, as do the images of DeepInversion, whose teacher is a LeNet-5 with batch
normalization. For comparison, the same student learns from the labels, from the teacher on the training images, and
from the teacher on noise. No image of MNIST is used by the trainings without data, except to measure the result.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from images import accuracy, plain, standardized
from keras import layers
from losses import from_logits
from semi_supervised import Log

import keras_kd as kd
from ways.bench import Bench, Part, Training, with_cache

BATCH_SIZE = 128
RATE = 2e-3
GENERATOR_RATE = 2e-2
TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    data: str
    num_images: int
    num_test: int
    epochs: int
    generator_width: int
    generated_epochs: int
    steps_per_epoch: int
    num_inverted: int
    inversion_steps: int


def open_bench(folder: Path, quick: bool, state: Path, record: Path) -> Bench:
    sizes = (500, 200, 1, 8, 2, 2, 40, 3) if quick else (60_000, 10_000, 4, 16, 80, 100, 2_000, 400)
    settings = Settings("mnist", *sizes)
    images = standardized(folder, settings.data, settings.num_images, plain)
    images = images._replace(x_test=images.x_test[: settings.num_test], y_test=images.y_test[: settings.num_test])
    return Bench(settings, images, state / "data_free", record)


def lenet(seed: int, divisor: int = 1, normalized: bool = False) -> keras.Model:
    keras.utils.set_random_seed(seed)
    made = []
    for filters, padding in ((6, "same"), (16, "valid"), (120, "valid")):
        made += [layers.Conv2D(filters // divisor, 5, padding=padding)]
        made += [layers.BatchNormalization(momentum=0.9)] if normalized else []
        made += [layers.ReLU(name="features" if filters == 120 else None)]
        made += [layers.MaxPooling2D()] if filters < 120 else []
    head = [layers.Flatten(), layers.Dense(84 // divisor, activation="relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *made, *head])


def compiled(model: keras.Model, steps: int, **settings: Any) -> keras.Model:
    model.compile(optimizer=adam(RATE, steps), loss=from_logits(), jit_compile=False, **settings)
    return model


def adam(rate: float, steps: int) -> keras.optimizers.Adam:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def pipeline(x: np.ndarray, y: np.ndarray | None, seed: int) -> Any:
    return kd.data.Pipeline((x,) if y is None else (x, y), batch_size=BATCH_SIZE, seed=seed)


def train(bench: Bench, seed: int, name: str, model: keras.Model, batches: Any, epochs: int) -> None:
    bench.fit(compiled(model, epochs * batches.steps_per_epoch), batches, epochs, f"{name}-{seed}")


def trained_teacher(bench: Bench, normalized: bool = False) -> keras.Model:
    name = "normalized_teacher" if normalized else "teacher"

    def make() -> keras.Model:
        teacher = lenet(0, normalized=normalized)
        batches, epochs = pipeline(bench.images.x, bench.images.y, 0), bench.settings.epochs
        bench.fit(compiled(teacher, epochs * batches.steps_per_epoch), batches, epochs, name)
        return teacher

    return bench.kept(name, make)


def alone(bench: Bench, seed: int) -> dict[str, float]:
    student = lenet(seed, 2)
    train(bench, seed, "alone", student, pipeline(bench.images.x, bench.images.y, seed), bench.settings.epochs)
    return {"accuracy": accuracy(student, bench.images)}


def distilled(bench: Bench, seed: int, name: str, teacher: Any, batches: Any, epochs: int, alpha: float) -> dict:
    student = lenet(seed, 2)
    distiller = kd.Distiller(teacher, student, alpha=alpha, temperature=TEMPERATURE)
    train(bench, seed, name, distiller, batches, epochs)
    return {"accuracy": accuracy(student, bench.images)}


def with_data(bench: Bench, seed: int) -> dict[str, float]:
    batches = pipeline(bench.images.x, bench.images.y, seed)
    batches, cached = with_cache(batches, trained_teacher(bench), bench.state / "outputs")
    return distilled(bench, seed, "with_data", cached, batches, bench.settings.epochs, 0.9)


def on_noise(bench: Bench, seed: int) -> dict[str, float]:
    """Normal noise instead of images, as much as there are training images."""
    noise = np.random.default_rng(seed).normal(size=bench.images.x.shape).astype("float32")
    batches = pipeline(noise, None, seed)
    return distilled(bench, seed, "on_noise", trained_teacher(bench), batches, bench.settings.epochs, 1.0)


def dafl(bench: Bench, seed: int) -> dict[str, float]:
    sizes, teacher, student = bench.settings, trained_teacher(bench), lenet(seed, 2)
    generator = kd.synthesis.generator((28, 28, 1), width=sizes.generator_width)
    synthesizer = kd.synthesis.DAFL(generator, features="features")  # the published weights for MNIST are the default
    distiller = kd.DataFreeDistiller(teacher, student, synthesizer=synthesizer, seed=seed)
    steps = sizes.generated_epochs * sizes.steps_per_epoch
    compiled(distiller, steps, synthesizer_optimizer=adam(GENERATOR_RATE, steps))
    log = Log(f"dafl-{seed}", every=max(1, sizes.generated_epochs // 8))
    resume = kd.callbacks.Resume(bench.folder(f"dafl-{seed}"), every_seconds=20.0, keep_finished=True)
    settings = {"steps_per_epoch": sizes.steps_per_epoch, "batch_size": BATCH_SIZE, "verbose": 0}
    distiller.fit(epochs=sizes.generated_epochs, callbacks=[log, resume], **settings)
    return {"accuracy": accuracy(student, bench.images)}


def inverted(bench: Bench, seed: int) -> dict[str, float]:
    """Images of DeepInversion, moved by up to 2 pixels, in as many steps as the training images take."""
    teacher, sizes = trained_teacher(bench, normalized=True), bench.settings
    path = bench.state / f"inverted-{seed}.npy"
    if not path.exists():
        inversion = kd.synthesis.DeepInversion(teacher, steps=sizes.inversion_steps, batch_size=250)
        made, _ = inversion.images(sizes.num_inverted, seed=seed, progress=False)
        np.save(path.with_suffix(".draft.npy"), made)
        path.with_suffix(".draft.npy").replace(path)
    images = np.load(path)
    batches = kd.data.Pipeline((images,), augment=[kd.data.PadAndCrop(2)], batch_size=BATCH_SIZE, seed=seed)
    epochs = -(-sizes.epochs * len(bench.images.x) // len(images))
    return distilled(bench, seed, "inverted", teacher, batches, epochs, 1.0)


def measured_teacher(bench: Bench, seed: int, normalized: bool) -> dict[str, float]:
    return {"accuracy": accuracy(trained_teacher(bench, normalized), bench.images)}


DATA_FREE = Part(
    "MNIST, without data: a LeNet-5 of half the width",
    open_bench,
    {
        "teacher": Training(
            "the teacher, LeNet-5", lambda bench, seed: measured_teacher(bench, seed, False), "98.91", once=True
        ),
        "normalized_teacher": Training(
            "the teacher of DeepInversion, with batch normalization",
            lambda bench, seed: measured_teacher(bench, seed, True),
            once=True,
        ),
        "alone": Training("the labels alone, all images", alone),
        "with_data": Training("labels and teacher, all images", with_data),
        "on_noise": Training("the teacher on noise", on_noise),
        "dafl": Training("the teacher on generated images (DAFL)", dafl, "98.20"),
        "inverted": Training("the teacher on DeepInversion's images", inverted),
    },
    {"test accuracy %": "accuracy"},
    (("dafl", "with_data"), ("dafl", "on_noise")),
    "Published: Chen et al., 2019, with a generator of 128 filters (here 16) and a longer training.",
)
