"""Few labels, many images: what a student learns from 1,000 labels, and what the teacher adds without more labels.

    python benchmarks/semi_supervised.py --data-dir DIR [--teacher FILE.keras] [--only teacher|students|table]
        [--epochs 3] [--seeds 0 1 2] [--quick]

`DIR` (or KERAS_KD_DATA) holds `fashion_mnist.npz` and its reader `load.py`. The teacher (wrn_16_2) learns from all
60,000 labels. The student (resnet8) is given 1,000 of them, balanced over the classes, and learns from these alone,
from these and the teacher, or from all 60,000 images, of which 59,000 are unlabeled and use alpha 1. All three take the
same number of steps with the same batch size from the same initial weights; the seed determines the weights, the order
and the choice of labels. Images have half resolution, are shifted by up to a pixel and flipped at random.

Teacher outputs are computed once, for 3 views of all images and 30 of the labeled ones, and shared by all later
trainings. Every finished training is a line of `results/semi_supervised.jsonl` and is not repeated; a killed training
resumes from its last saved epoch. Takes about 10 minutes for the teacher and 20 for the students on 2 cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import RESULTS, markdown, write
from images import Images, accuracy, save, standardized
from losses import optimizer

import keras_kd as kd
from keras_kd.data.stratify import stratified_choice

BATCH_SIZE = 50  # divides 1,000 and 60,000, so that the number of steps can be equal
TEACHER_BATCH_SIZE = 128
ALPHA = 0.9
TEMPERATURE = 4.0
FILE = "fashion_mnist"
TRAININGS = {
    "alone": "the labels alone",
    "labeled": "labels and teacher, the labeled images",
    "all": "labels and teacher, all images",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    num_images: int
    num_labels: int
    epochs: int
    views: int
    views_of_labeled: int
    teacher: str = ""

    @property
    def steps(self) -> int:
        """The number of steps of every student, whatever its data."""
        return self.num_images // BATCH_SIZE * self.epochs


def load(folder: Path, num_images: int) -> Images:
    """14x14 images, with mean 0 and standard deviation 1 over the training images."""
    return standardized(folder, FILE, num_images)


def build(name: str) -> keras.Model:
    return kd.models.build(name, input_shape=(14, 14, 1), num_classes=10)


def pipeline(x: np.ndarray, y: np.ndarray, *, seed: int, batch_size: int = BATCH_SIZE, views: int | None = None) -> Any:
    augment = [kd.data.PadAndCrop(1), kd.data.Flip()]
    return kd.data.Pipeline((x, y), augment=augment, batch_size=batch_size, seed=seed, augment_seed=0, views=views)


class Log(keras.callbacks.Callback):
    """Prints the logs every `every` epochs, and adds each epoch's seconds to the logs for `Resume`."""

    def __init__(self, what: str, every: int):
        super().__init__()
        self.what, self.every = what, every

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self._start
        if (epoch + 1) % self.every == 0:
            values = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
            print(f"{self.what}, epoch {epoch + 1}: {values}", flush=True)


def fit(model: keras.Model, batches: Any, epochs: int, folder: Path, log: Log, *others: Any) -> float:
    """Resumes the training, runs it to the last epoch, and returns the seconds of all epochs.

    Args:
        model: compiled.
        batches: a pipeline.
        epochs: of the whole training.
        folder: of the saved state.
        log: prints the epochs.
        others: further callbacks.
    """
    resume = kd.callbacks.Resume(folder, every_seconds=20.0, keep_finished=True)
    first = resume.restore(model)
    callbacks = [log, *others, resume]
    model.fit(batches.from_epoch(first), initial_epoch=first, epochs=epochs, callbacks=callbacks, verbose=0)
    return sum(resume.history["seconds"])


# The teacher.


def trained_teacher(images: Images, epochs: int, state: Path) -> keras.Model:
    path = state / f"teacher-{len(images.x)}-{epochs}.keras"
    if path.exists():
        return keras.models.load_model(path, compile=False)
    keras.utils.set_random_seed(0)
    teacher = build("wrn_16_2")
    batches = pipeline(images.x, images.y, seed=0, batch_size=TEACHER_BATCH_SIZE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(optimizer(batches.steps_per_epoch * epochs), loss=loss, metrics=["accuracy"], jit_compile=False)
    fit(teacher, batches, epochs, path.with_suffix(""), Log("teacher", every=1))
    save(teacher, path)
    print(f"teacher: {accuracy(teacher, images):.4f}", flush=True)
    return teacher


# The students.


def data_of(training: str, images: Images, keep: np.ndarray, settings: Settings, seed: int) -> tuple[Any, int]:
    """A student's training data, and the number of epochs that gives all students the same number of steps."""
    if training == "all":
        y = np.full_like(images.y, kd.data.UNLABELED)
        y[keep] = images.y[keep]
        return pipeline(images.x, y, seed=seed, views=settings.views), settings.epochs
    batches = pipeline(images.x[keep], images.y[keep], seed=seed, views=settings.views_of_labeled)
    return batches, settings.steps // batches.steps_per_epoch


def with_teacher_outputs(batches: Any, training: str, seed: int, teacher: keras.Model, state: Path) -> tuple[Any, Any]:
    """The batches with the teacher outputs, and the cached teacher that reads these."""
    folder = state / ("outputs-all" if training == "all" else f"outputs-{seed}")
    cached = kd.teachers.CachedTeacher.build(teacher, batches, folder, views=batches.views)
    return batches.with_teacher(cached), cached


def train(training: str, seed: int, images: Images, teacher: keras.Model, settings: Settings, state: Path) -> dict:
    keep = stratified_choice(images.y, settings.num_labels, seed)
    batches, epochs = data_of(training, images, keep, settings, seed)
    keras.utils.set_random_seed(seed)
    model = student = build("resnet8")
    if training != "alone":
        batches, cached = with_teacher_outputs(batches, training, seed, teacher, state)
        model = kd.Distiller(cached, student, alpha=ALPHA, temperature=TEMPERATURE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=kd.data.UNLABELED)
    model.compile(optimizer(settings.steps), loss=loss, weighted_metrics=["accuracy"], jit_compile=False)
    log = Log(f"{training}, seed {seed}", every=epochs // settings.epochs)
    seconds = fit(model, batches, epochs, state_of(training, seed, settings, state), log)
    return {"accuracy": accuracy(student, images), "seconds": round(seconds), "steps": int(model.optimizer.iterations)}


def state_of(training: str, seed: int, settings: Settings, state: Path) -> Path:
    return state / f"{training}-{seed}-{settings.epochs}"


def recorded(record: Path, settings: Settings) -> list[dict]:
    lines = record.read_text().splitlines() if record.exists() else []
    return [row for row in map(json.loads, lines) if row["settings"] == dataclasses.asdict(settings)]


def students(
    images: Images, teacher: keras.Model, settings: Settings, seeds: list[int], state: Path, record: Path
) -> None:
    done = {(row["training"], row["seed"]) for row in recorded(record, settings)}
    for seed in seeds:
        for training in TRAININGS:
            if (training, seed) in done:
                continue
            result = train(training, seed, images, teacher, settings, state)
            row = {"training": training, "seed": seed, **result, "settings": dataclasses.asdict(settings)}
            with record.open("a") as file:
                file.write(json.dumps(row) + "\n")
            kd.callbacks.Resume(state_of(training, seed, settings, state)).clear()
            print(f"{training}, seed {seed}: {result['accuracy']:.4f}, {result['seconds']} s", flush=True)


# Results.


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def summarize(rows: list[dict], settings: Settings, teacher_accuracy: float) -> tuple[dict, str]:
    rows = sorted(rows, key=lambda row: row["seed"])
    by_seed = {key: {row["seed"]: 100 * row["accuracy"] for row in rows if row["training"] == key} for key in TRAININGS}
    gains = {
        key: [by_seed["all"][seed] - by_seed[key][seed] for seed in by_seed["all"] if seed in by_seed[key]]
        for key in ("alone", "labeled")
    }
    labels = f"{settings.num_labels:,}"
    seen = {"alone": labels, "labeled": labels, "all": f"{settings.num_images:,}"}
    lines = [
        [
            text,
            labels,
            seen[key],
            spread(list(by_seed[key].values())),
            ", ".join(f"{v:.2f}" for v in by_seed[key].values()),
        ]
        for key, text in TRAININGS.items()
    ]
    header = ["Fashion-MNIST, the student learns from", "labels", "images", "test accuracy %", "by seed"]
    note = (
        f"Teacher (wrn_16_2, all labels): {100 * teacher_accuracy:.2f}%. Student: resnet8, {settings.steps:,} steps of "
        f"{BATCH_SIZE} images in each row, alpha {ALPHA:g}, temperature {TEMPERATURE:g}. All images over the labeled "
        f"ones, seed by seed: {spread(gains['labeled'])} points; over the labels alone: {spread(gains['alone'])}."
    )
    about = dataclasses.asdict(settings) | {"alpha": ALPHA, "temperature": TEMPERATURE, "batch_size": BATCH_SIZE}
    results = {"settings": about, "teacher_accuracy": teacher_accuracy, "accuracy": by_seed, "gains": gains}
    return results, f"{markdown(header, lines)}\n\n{note}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_semi_supervised")
    parser.add_argument("--teacher", type=Path, help="a trained one, for the same 14x14 images, instead of our own")
    parser.add_argument("--teacher-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of all images; of fewer ones as many steps")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", choices=["teacher", "students", "table"])
    parser.add_argument("--quick", action="store_true", help="1,000 images, 1 epoch; nothing is written to the docs")
    arguments = parser.parse_args()
    if not arguments.data_dir or not (Path(arguments.data_dir) / f"{FILE}.npz").exists():
        sys.exit(f"There is no {FILE}.npz: name its folder with --data-dir or KERAS_KD_DATA. Nothing was run.")
    quick = arguments.quick
    state = arguments.state / "quick" if quick else arguments.state
    state.mkdir(parents=True, exist_ok=True)
    record = (state if quick else RESULTS) / "semi_supervised.jsonl"

    images = load(Path(arguments.data_dir), 1000 if quick else 60_000)
    if arguments.teacher:
        teacher = keras.models.load_model(arguments.teacher, compile=False)
    else:
        teacher = trained_teacher(images, 1 if quick else arguments.teacher_epochs, state)
    name = kd.teachers.fingerprint(teacher).removeprefix("sha256:")[:12]
    settings = Settings(1000, 100, 1, 1, 2, name) if quick else Settings(60_000, 1000, arguments.epochs, 3, 30, name)
    state = state / name
    state.mkdir(exist_ok=True)
    if arguments.only in (None, "students"):
        students(images, teacher, settings, arguments.seeds, state, record)
    if arguments.only in (None, "table"):
        results, table = summarize(recorded(record, settings), settings, accuracy(teacher, images))
        print(table) if quick else write("semi_supervised", results, table)


if __name__ == "__main__":
    main()
