"""The plain-CNN experiment of Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020.

    python benchmarks/assistant.py --data-dir DIR [--teacher-epochs 20] [--epochs 30] [--seeds 0 1 2]
        [--only teacher|seeds|table] [--quick]

`DIR` (or KERAS_KD_DATA) holds `cifar10_25k_packed.npz`, half of CIFAR-10's training images and all test images, and
its reader `load.py`. A student with 2 convolutions learns alone, from a teacher with 10, and from an assistant with 4
that was distilled from that teacher. There is one teacher; the others have 3 seeds and equally many epochs.

Every finished training is a line of `results/assistant.jsonl` and a `.keras` file under `--state`, and is not repeated;
a killed training resumes from its last saved epoch. Teacher outputs are computed once, for 8 views of each image, and
shared by all trainings that use them. Takes about an hour and a half on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import RESULTS, markdown, write
from images import Images, accuracy, read

import keras_kd as kd

BATCH_SIZE = 128
ALPHA = 0.9
TEMPERATURE = 4.0
FILE = "cifar10_25k_packed"
ROWS = (  # label, our training, the paper's accuracy
    ("teacher, 10 convolutions", "teacher", None),
    ("assistant, 4 convolutions, from the teacher", "assistant", None),
    ("student, 2 convolutions, alone", "alone", 70.16),
    ("student from the teacher", "distilled", 72.57),
    ("student from the assistant", "assisted", 73.51),
)


@dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    teacher_epochs: int
    epochs: int
    learning_rate: float
    views: int
    num_images: int

    def of(self, training: str) -> dict[str, float]:
        """The settings that affect a training: the teacher's depend on nothing that follows it."""
        settings = asdict(self)
        return (
            {k: v for k, v in settings.items() if k not in ("epochs", "views")} if training == "teacher" else settings
        )


def load(folder: Path, num_images: int, num_test: int) -> Images:
    """32x32 images, each channel with mean 0 and standard deviation 1 over the training images."""
    arrays = read(folder, FILE)
    mean, deviation = (f(arrays["x_train"] / np.float32(255), (0, 1, 2)) for f in (np.mean, np.std))
    order = np.random.default_rng(0).permutation(len(arrays["x_train"]))[:num_images]
    x, x_test = (
        (images / np.float32(255) - mean) / deviation
        for images in (arrays["x_train"][order], arrays["x_test"][:num_test])
    )
    return Images(x, arrays["y_train"][order].astype("int64"), x_test, arrays["y_test"][:num_test].astype("int64"))


class Experiment:
    """The trainings, each run once and stored as a `.keras` file in the state folder and a line in the record."""

    def __init__(self, images: Images, settings: Settings, state: Path, record: Path):
        self.images = images
        self.settings = settings
        self.state = state
        self.record = record

    def rows(self) -> list[dict[str, Any]]:
        """The finished trainings with these settings."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [row for row in map(json.loads, lines) if row["settings"] == self.settings.of(row["training"])]

    def teacher(self) -> keras.Model:
        return self._trained("teacher", 0, "plain_cnn_10", self.settings.teacher_epochs)

    def run_seed(self, seed: int) -> None:
        """Trains three students with the same initial weights and batches, and the assistant of the third."""
        epochs, of_teacher = self.settings.epochs, lambda: self._cached(self.teacher(), "teacher", 0)
        self._trained("alone", seed, "plain_cnn_2", epochs)
        self._trained("distilled", seed, "plain_cnn_2", epochs, of_teacher)
        assistant = self._trained("assistant", seed, "plain_cnn_4", epochs, of_teacher)
        self._trained("assisted", seed, "plain_cnn_2", epochs, lambda: self._cached(assistant, "assistant", seed))

    def _path(self, training: str, seed: int, suffix: str) -> Path:
        name = "-".join(f"{name}={value:g}" for name, value in self.settings.of(training).items())
        folder = self.state / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{training}-{seed}.{suffix}"

    def _cached(self, model: keras.Model, training: str, seed: int) -> Any:
        """A model's outputs for every view of every image, computed once for all seeds."""
        views = self.settings.views
        folder = self._path(training, seed, f"{views}-views")
        print(f"== the outputs of {training}, seed {seed}", flush=True)
        return kd.teachers.CachedTeacher.build(model, self._pipeline(seed=0), folder, views=views)

    def _pipeline(self, seed: int, views: int | None = None) -> Any:
        """Images padded by 4, cropped and flipped at random, alike for all seeds; the seed determines the order."""
        augment = [kd.data.PadAndCrop(4), kd.data.Flip()]
        source = (self.images.x, self.images.y)
        return kd.data.Pipeline(source, augment=augment, batch_size=BATCH_SIZE, seed=seed, augment_seed=0, views=views)

    def _trained(
        self, name: str, seed: int, architecture: str, epochs: int, cached_teacher: Callable[[], Any] | None = None
    ) -> keras.Model:
        """The model of that name, trained if necessary: alone, or from a teacher's cached outputs."""
        path = self._path(name, seed, "keras")
        is_recorded = any((row["training"], row["seed"]) == (name, seed) for row in self.rows())
        if path.exists() and is_recorded:
            return keras.models.load_model(path, compile=False)
        teacher = None if cached_teacher is None else cached_teacher()
        print(f"== {name}, seed {seed}: {architecture}, {epochs} epochs", flush=True)
        resume = kd.callbacks.Resume(self._path(name, seed, "epochs"), every_seconds=20.0, keep_finished=True)
        model = self._fit(architecture, seed, epochs, teacher, resume)
        result = {
            "accuracy": accuracy(model, self.images),
            "seconds": round(sum(resume.history["seconds"])),
            "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        }
        draft = path.with_name(f"saving-{path.name}")
        model.save(draft)
        draft.replace(path)
        row = {"training": name, "seed": seed, **result, "settings": self.settings.of(name)}
        with self.record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        resume.clear()
        print(f"== {name}, seed {seed}: {100 * result['accuracy']:.2f}%, {result['seconds']} s", flush=True)
        return model

    def _fit(self, architecture: str, seed: int, epochs: int, teacher: Any, resume: kd.callbacks.Resume) -> keras.Model:
        # Twice as fast for the large model on a CPU with AVX512-BF16, but no faster for the small ones. The weights
        # stay float32, and so do the outputs computed later.
        policy = "mixed_bfloat16" if architecture == "plain_cnn_10" else "float32"
        model = student = build(architecture, seed, policy)
        pipeline = self._pipeline(seed, None if architecture == "plain_cnn_10" else self.settings.views)
        if teacher is not None:
            pipeline = pipeline.with_teacher(teacher)
            model = kd.Distiller(teacher, student, alpha=ALPHA, temperature=TEMPERATURE)
        compile_model(model, self.settings.learning_rate, epochs * -(-len(self.images.x) // BATCH_SIZE))
        first = resume.restore(model)
        model.fit(
            pipeline.from_epoch(first),
            initial_epoch=first,
            epochs=epochs,
            callbacks=[Seconds(), resume],
            shuffle=False,
            verbose=2,
        )
        trained = build(architecture, seed, "float32")
        trained.set_weights(student.get_weights())
        return trained


def build(architecture: str, seed: int, policy: str) -> keras.Model:
    keras.utils.set_random_seed(seed)
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    model = kd.models.build(architecture, input_shape=(32, 32, 3), num_classes=10)
    keras.config.set_dtype_policy(with_policy)
    return model


def compile_model(model: keras.Model, learning_rate: float, steps: int) -> None:
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    # The paper's 1e-4 is for PyTorch, where momentum 0.9 multiplies it by 10; Keras' decay bypasses the momentum.
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=1e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, metrics=["accuracy"], jit_compile=False)


class Seconds(keras.callbacks.Callback):
    """Adds each epoch's seconds to the logs for the callbacks that follow."""

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self._start


# Results.


def summarize(experiment: Experiment) -> tuple[dict, str]:
    values = {name: [] for _, name, _ in ROWS}
    parameters = {}
    for row in sorted(experiment.rows(), key=lambda row: row["seed"]):
        values[row["training"]].append(round(100 * row["accuracy"], 2))
        parameters[row["training"]] = f"{row['parameters']:,}"
    lines = [
        [label, parameters.get(name, "–"), "–" if paper is None else f"{paper:.2f}", *spread(values[name])]
        for label, name, paper in ROWS
    ]
    header = ["CIFAR-10, test accuracy %", "parameters", "paper", "mean ± deviation", "by seed"]
    settings = asdict(experiment.settings) | {"alpha": ALPHA, "temperature": TEMPERATURE, "batch_size": BATCH_SIZE}
    seconds = sum(row["seconds"] for row in experiment.rows())
    return {
        "settings": settings,
        "accuracy": values,
        "seconds": seconds,
    }, f"{markdown(header, lines)}\n\n{notes(settings)}"


def spread(values: list[float]) -> tuple[str, str]:
    if len(values) < 2:
        return tuple(f"{value:.2f}" for value in values) + ("",) if values else ("–", "")
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}", ", ".join(f"{v:.2f}" for v in values)


def notes(settings: dict) -> str:
    return f"""\
One teacher, seed 0; a seed's three students start from the same weights and see the same batches. The test images are
used once, after the last epoch; the paper reports the best epoch.

As in the paper: the networks, batches of {BATCH_SIZE}, SGD with momentum 0.9 from {settings["learning_rate"]:g}, weight
decay. Otherwise here: {settings["num_images"]:,} training images (paper: 50,000); {settings["teacher_epochs"]} epochs
for the teacher and {settings["epochs"]} for the others (160), down a cosine (constant); crops with 4 pixels of padding
and flips, {settings["views"]} views of each image for all but the teacher (the published code has none for these
networks); alpha {ALPHA:g} and temperature {TEMPERATURE:g}, not searched (searched for each pair); soft targets are
summed over classes (the published code averages)."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_assistant")
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--only", choices=["teacher", "seeds", "table"])
    parser.add_argument("--quick", action="store_true", help="512 images, 2 epochs; nothing is written to the docs")
    arguments = parser.parse_args()
    if not arguments.data_dir or not (Path(arguments.data_dir) / f"{FILE}.npz").exists():
        sys.exit(f"There is no {FILE}.npz: name its folder with --data-dir or KERAS_KD_DATA. Nothing was run.")
    num_images, num_test = (512, 200) if arguments.quick else (25_000, 10_000)
    teacher_epochs, epochs = (2, 2) if arguments.quick else (arguments.teacher_epochs, arguments.epochs)
    settings = Settings(
        teacher_epochs, epochs, arguments.learning_rate, 2 if arguments.quick else arguments.views, num_images
    )
    record = (arguments.state if arguments.quick else RESULTS) / "assistant.jsonl"
    record.parent.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(load(Path(arguments.data_dir), num_images, num_test), settings, arguments.state, record)
    if arguments.only in (None, "teacher"):
        experiment.teacher()
    if arguments.only in (None, "seeds"):
        for seed in arguments.seeds:
            experiment.run_seed(seed)
    if arguments.only in (None, "table"):
        results, table = summarize(experiment)
        print(table) if arguments.quick else write("assistant", results, table)


if __name__ == "__main__":
    main()
