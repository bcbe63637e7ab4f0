"""Teachers that see more than their students: color and resolution, and clean speech, on unlabeled pairs.

    python benchmarks/cross_modal.py --data-dir DIR [--tasks color speech] [--only teacher|students|table]
        [--epochs 20] [--teacher-epochs 20] [--seeds 0 1 2] [--quick]

`DIR` (or KERAS_KD_DATA) holds `cifar10_25k_packed.npz`, `fsdd.npz` and their reader `load.py`.

- `color`: the teacher (resnet20) sees 32x32 images in color, the student (resnet8) the same images in gray at 16x16.
  1,000 images have labels, and 24,000 have none.
- `speech`: the teacher sees the log spectrogram of a spoken digit, the student that of the same recording in noise of
  its own power, drawn anew in each epoch. 200 recordings have labels, and 2,500 have none.

The teacher learns from all labels of its own side. The student learns from the labels alone, from labels and teacher on
the labeled pairs, or from labels and teacher on all pairs, where unlabeled ones have an alpha of 1. The three take the
same number of steps from the same initial weights, and augmentations move both sides of a pair alike; the seed
determines weights, order and the choice of labels. Test examples are the student's side alone.

Teacher outputs are computed once for 4 views of all pairs and 40 of the labeled ones. Every finished training is a line
of `results/cross_modal.jsonl` and is not repeated; a killed training resumes from its last saved epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from common import RESULTS, markdown, write
from images import read, save
from losses import optimizer
from semi_supervised import Log, fit, spread

import keras_kd as kd
from keras_kd.data.stratify import stratified_choice

BATCH_SIZE = 50
ALPHA = 0.9
TEMPERATURE = 4.0
NUM_SAMPLES = 6144  # 0.77 seconds at 8 kHz
NOISE = 1.0  # the standard deviation of the noise, and of the sound
FILES = {"color": "cifar10_25k_packed", "speech": "fsdd"}
WORDS = {
    "color": "CIFAR-10, color teacher, gray student of half the resolution",
    "speech": "Spoken digits, teacher of clean speech, student of noisy speech",
}
TRAININGS = {
    "alone": "the labels alone",
    "labeled": "labels and teacher, the labeled pairs",
    "all": "labels and teacher, all pairs",
}


class Pairs(NamedTuple):
    """Both sides of the training examples, and the student's side of the test examples."""

    teacher: np.ndarray
    student: np.ndarray
    y: np.ndarray
    teacher_test: np.ndarray
    student_test: np.ndarray
    y_test: np.ndarray


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    task: str
    num_pairs: int
    num_labels: int
    epochs: int
    views: int
    views_of_labeled: int
    teacher: str = ""

    @property
    def steps(self) -> int:
        """The number of steps of every student, whatever its data."""
        return -(-self.num_pairs // BATCH_SIZE) * self.epochs


# Data.


def load(task: str, folder: Path, num_pairs: int | None) -> Pairs:
    arrays = read(folder, FILES[task])
    return {"color": color_pairs, "speech": speech_pairs}[task](arrays, num_pairs)


def color_pairs(arrays: dict[str, np.ndarray], num_pairs: int | None) -> Pairs:
    order = np.random.default_rng(0).permutation(len(arrays["y_train"]))[:num_pairs]
    color = [arrays["x_train"][order] / np.float32(255), arrays["x_test"] / np.float32(255)]
    gray = [low_resolution(x) for x in color]
    return paired(color, gray, [arrays["y_train"][order], arrays["y_test"]])


def low_resolution(images: np.ndarray) -> np.ndarray:
    """Color images `[n, 32, 32, 3]` as gray ones of half the resolution, `[n, 16, 16, 1]`."""
    gray = images @ np.array([0.299, 0.587, 0.114], np.float32)
    return gray.reshape(len(gray), 16, 2, 16, 2).mean((2, 4))[..., None]


def speech_pairs(arrays: dict[str, np.ndarray], num_pairs: int | None) -> Pairs:
    """Sound `[n, samples]`; the pipeline adds the noise of training recordings, so both sides are the same here."""
    bounds = zip(arrays["offsets"][:-1], arrays["offsets"][1:], strict=True)
    sound = np.stack([padded(arrays["audio"][start:end].astype("float32")) for start, end in bounds])
    is_test = arrays["is_test"]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~is_test))[:num_pairs]
    clean = [sound[rows], sound[is_test]]
    noise = np.random.default_rng(1).normal(size=clean[1].shape).astype("float32")
    labels = [arrays["label"][rows], arrays["label"][is_test]]
    return paired(clean, [clean[0], clean[1] + NOISE * noise], labels)


def padded(clip: np.ndarray) -> np.ndarray:
    """The beginning of a clip with silence after its end, float32 `[samples]`, of power 1."""
    sound = np.zeros(NUM_SAMPLES, np.float32)
    sound[: min(len(clip), NUM_SAMPLES)] = clip[:NUM_SAMPLES]
    return sound / max(float(np.sqrt(np.square(sound).mean())), 1e-6)


def paired(teacher: list[np.ndarray], student: list[np.ndarray], labels: list[np.ndarray]) -> Pairs:
    (x, x_test), (s, s_test), (y, y_test) = teacher, student, labels
    return Pairs(x, s, y.astype("int64"), x_test, s_test, y_test.astype("int64"))


def pipeline(task: str, pairs: Pairs, y: np.ndarray, *, seed: int, rows: Any = slice(None), views: int | None = None):
    source = kd.data.pair(pairs.teacher[rows], (pairs.student[rows], y[rows]))
    augment = {
        "color": [kd.data.PadAndCrop(2), kd.data.Flip()],  # pixels of the student; twice as many of the teacher
        "speech": [kd.data.TimeShift(800), kd.data.Only("student", kd.data.GaussianNoise(NOISE))],
    }[task]
    return kd.data.Pipeline(source, augment=augment, batch_size=BATCH_SIZE, seed=seed, augment_seed=0, views=views)


# Models.


def build(task: str, role: str) -> keras.Model:
    if task == "color":
        name, shape = {"teacher": ("resnet20", (32, 32, 3)), "student": ("resnet8", (16, 16, 1))}[role]
        return kd.models.build(name, input_shape=shape, num_classes=10)
    return listener({"teacher": 24, "student": 8}[role])


def listener(width: int) -> keras.Model:
    """A convolutional network on the log spectrogram of sound `[n, samples]`."""
    layers = keras.layers
    blocks = []
    for factor in (1, 2, 4):
        blocks += [
            layers.Conv2D(factor * width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
        ]
        blocks += [layers.ReLU(), layers.MaxPooling2D()]
    spectrogram = layers.STFTSpectrogram(
        mode="log", frame_length=128, frame_step=128, fft_length=128, trainable=False, expand_dims=True
    )
    sound = [keras.Input((NUM_SAMPLES,)), layers.Reshape((NUM_SAMPLES, 1)), spectrogram]
    sound += [layers.BatchNormalization(momentum=0.9)]
    return keras.Sequential([*sound, *blocks, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    return float((model.predict(x, batch_size=500, verbose=0).argmax(-1) == y).mean())


def compiled(model: keras.Model, steps: int) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=kd.data.UNLABELED)
    model.compile(optimizer(steps), loss=loss, weighted_metrics=["accuracy"], jit_compile=False)


# Trainings.


def trained_teacher(task: str, pairs: Pairs, epochs: int, state: Path) -> keras.Model:
    path = state / f"teacher-{len(pairs.y)}-{epochs}.keras"
    if path.exists():
        return keras.models.load_model(path, compile=False)
    keras.utils.set_random_seed(0)
    teacher, batches = build(task, "teacher"), pipeline(task, pairs, pairs.y, seed=0).side("teacher")
    compiled(teacher, batches.steps_per_epoch * epochs)
    fit(teacher, batches, epochs, path.with_suffix(""), Log(f"{task}, teacher", every=1))
    save(teacher, path)
    print(f"{task}, teacher: {accuracy(teacher, pairs.teacher_test, pairs.y_test):.4f}", flush=True)
    return teacher


def train(training: str, seed: int, pairs: Pairs, teacher: keras.Model, settings: Settings, state: Path) -> dict:
    task = settings.task
    keep = np.sort(stratified_choice(pairs.y, settings.num_labels, seed))
    y = np.full_like(pairs.y, kd.data.UNLABELED)
    y[keep] = pairs.y[keep]
    rows, views = (slice(None), settings.views) if training == "all" else (keep, settings.views_of_labeled)
    batches = pipeline(task, pairs, y, seed=seed, rows=rows, views=views)
    epochs = settings.steps // batches.steps_per_epoch
    keras.utils.set_random_seed(seed)
    model = student = build(task, "student")
    if training == "alone":
        batches = batches.side("student")
    else:
        folder = state / ("outputs-all" if training == "all" else f"outputs-{seed}")
        cached = kd.teachers.CachedTeacher.build(teacher, batches, folder, inputs="teacher", views=views)
        model = kd.Distiller(cached, student, alpha=ALPHA, temperature=TEMPERATURE, student_inputs="student")
        batches = batches.with_teacher(cached)
    compiled(model, settings.steps)
    log = Log(f"{task}, {training}, seed {seed}", every=max(1, epochs // settings.epochs))
    seconds = fit(model, batches, epochs, state_of(training, seed, settings, state), log)
    measured = accuracy(student, pairs.student_test, pairs.y_test)
    return {"accuracy": measured, "seconds": round(seconds), "steps": int(model.optimizer.iterations)}


def state_of(training: str, seed: int, settings: Settings, state: Path) -> Path:
    return state / f"{training}-{seed}-{settings.epochs}"


def recorded(record: Path, settings: Settings) -> list[dict]:
    lines = record.read_text().splitlines() if record.exists() else []
    return [row for row in map(json.loads, lines) if row["settings"] == dataclasses.asdict(settings)]


def students(
    pairs: Pairs, teacher: keras.Model, settings: Settings, seeds: list[int], state: Path, record: Path
) -> None:
    done = {(row["training"], row["seed"]) for row in recorded(record, settings)}
    for seed in seeds:
        for training in TRAININGS:
            if (training, seed) in done:
                continue
            result = train(training, seed, pairs, teacher, settings, state)
            row = {"training": training, "seed": seed, **result, "settings": dataclasses.asdict(settings)}
            with record.open("a") as file:
                file.write(json.dumps(row) + "\n")
            kd.callbacks.Resume(state_of(training, seed, settings, state)).clear()
            print(
                f"{settings.task}, {training}, seed {seed}: {result['accuracy']:.4f}, {result['seconds']} s", flush=True
            )


# Results.


def summarize(rows: list[dict], settings: Settings, teacher: tuple[float, float | None]) -> tuple[dict, str]:
    rows = sorted(rows, key=lambda row: row["seed"])
    by_seed = {key: {row["seed"]: 100 * row["accuracy"] for row in rows if row["training"] == key} for key in TRAININGS}
    gains = {
        key: [by_seed["all"][seed] - by_seed[key][seed] for seed in by_seed["all"] if seed in by_seed[key]]
        for key in ("alone", "labeled")
    }
    labels = f"{settings.num_labels:,}"
    seen = {"alone": labels, "labeled": labels, "all": f"{settings.num_pairs:,}"}
    lines = [
        [text, seen[key], spread(list(by_seed[key].values())), ", ".join(f"{v:.2f}" for v in by_seed[key].values())]
        for key, text in TRAININGS.items()
    ]
    header = [f"{WORDS[settings.task]}; the student learns from", "pairs", "test accuracy %", "by seed"]
    own, other = teacher
    note = (
        f"Teacher, on its own side: {100 * own:.2f}%"
        + ("" if other is None else f"; on the student's: {100 * other:.2f}%")
        + f". Every student takes {settings.steps:,} steps of {BATCH_SIZE} examples; {labels} pairs have labels, "
        f"alpha {ALPHA:g}, temperature {TEMPERATURE:g}. All pairs over the labeled ones, seed by seed: "
        f"{spread(gains['labeled'])} points; over the labels alone: {spread(gains['alone'])}."
    )
    about = dataclasses.asdict(settings) | {"alpha": ALPHA, "temperature": TEMPERATURE, "batch_size": BATCH_SIZE}
    results = {"settings": about, "teacher_accuracy": teacher, "accuracy": by_seed, "gains": gains}
    return results, f"{markdown(header, lines)}\n\n{note}"


def measured(task: str, teacher: keras.Model, pairs: Pairs) -> tuple[float, float | None]:
    """The accuracy of the teacher on its side, and on the student's if that has the same shape."""
    own = accuracy(teacher, pairs.teacher_test, pairs.y_test)
    return own, accuracy(teacher, pairs.student_test, pairs.y_test) if task == "speech" else None


def settings_of(task: str, pairs: Pairs, epochs: int | None, teacher: keras.Model, quick: bool) -> Settings:
    name = kd.teachers.fingerprint(teacher).removeprefix("sha256:")[:12]
    if quick:
        return Settings(task, len(pairs.y), 50, 1, 1, 2, name)
    num_labels, usual = {"color": (1000, 20), "speech": (200, 60)}[task]
    return Settings(task, len(pairs.y), num_labels, epochs or usual, 4, 40, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_cross_modal")
    parser.add_argument("--tasks", nargs="*", choices=list(FILES), default=list(FILES))
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, help="of all pairs, 20 of images and 60 of recordings by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", choices=["teacher", "students", "table"])
    parser.add_argument("--quick", action="store_true", help="300 pairs, 1 epoch; nothing is written to the docs")
    arguments = parser.parse_args()
    folder, quick = Path(arguments.data_dir or "."), arguments.quick
    missing = [FILES[task] for task in arguments.tasks if not (folder / f"{FILES[task]}.npz").exists()]
    if missing or not arguments.data_dir:
        sys.exit(f"There is no {missing}: name its folder with --data-dir or KERAS_KD_DATA. Nothing was run.")
    state = arguments.state / "quick" if quick else arguments.state
    record = (state if quick else RESULTS) / "cross_modal.jsonl"
    results, tables = {}, []
    for task in arguments.tasks:
        pairs = load(task, folder, 300 if quick else None)
        of_task = state / task
        of_task.mkdir(parents=True, exist_ok=True)
        teacher = trained_teacher(task, pairs, 1 if quick else arguments.teacher_epochs, of_task)
        settings = settings_of(task, pairs, arguments.epochs, teacher, quick)
        of_task = of_task / settings.teacher
        of_task.mkdir(exist_ok=True)
        if arguments.only in (None, "students"):
            students(pairs, teacher, settings, arguments.seeds, of_task, record)
        if arguments.only in (None, "table"):
            results[task], table = summarize(recorded(record, settings), settings, measured(task, teacher, pairs))
            tables.append(table)
    if tables:
        text = "\n\n".join(tables)
        print(text) if quick else write("cross_modal", results, text)


if __name__ == "__main__":
    main()
