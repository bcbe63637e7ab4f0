"""What each compression technique costs in accuracy and saves in bytes and time, alone, with a teacher, and in TFMOT.

    python benchmarks/compression_techniques.py --data-dir DIR [--data fashion_mnist cifar10_25k_packed] [--seeds 0 1 2]
        [--students resnet mobilenet] [--only teacher|students|compress|tfmot|table] [--quick]

`DIR` (or KERAS_KD_DATA) holds the data sets and their reader `load.py`. Images have half resolution, are shifted by up
to a pixel and flipped at random. The teacher is wrn_16_2. For each student and seed, a float student is trained, alone
and by distillation. Each technique then fine-tunes a copy of it for the same number of steps with the same batches and
learning rates, the distilled one with the teacher; "float" is the student fine-tuned without a technique. TFMOT
fine-tunes the tf_keras twin of the student that was trained alone. Accuracy is that of the `.tflite` file on the test
images.

Every finished training is a line of `results/compression_techniques.jsonl` and is not repeated; a killed training
resumes from its last saved epoch. Latencies are measured at the end, file by file in turn, when nothing else runs;
they and the sizes are of the files of the first of `--seeds`.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
from common import RESULTS, markdown, write
from images import Images, save, standardized
from keras import layers
from semi_supervised import Log, fit
from techniques import TECHNIQUES, TFMOT, finetuned_with_tfmot, write_tf_keras, zeros

import keras_kd as kd
from keras_kd.compression.stripping import stripped
from keras_kd.evaluation import TFLiteRunner, accuracy, compare_latency

BATCH_SIZE = 100
TEACHER_BATCH_SIZE = 128
ALPHA, TEMPERATURE = 0.9, 4.0
RATE, FINE_TUNING_RATE = 0.05, 0.01
VIEWS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the student, the technique and the seed."""

    data: str
    num_images: int
    teacher_epochs: int
    epochs: int
    fine_tuning_epochs: int


def load(folder: Path, settings: Settings) -> Images:
    """Images of half resolution, with mean 0 and standard deviation 1 over the training images."""
    return standardized(folder, settings.data, settings.num_images)


def mobilenet(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Inverted residuals as in MobileNetV2, small enough for small images."""

    def normalized(x, relu=True):
        x = layers.BatchNormalization()(x)
        return layers.ReLU(6.0)(x) if relu else x

    inputs = keras.Input(input_shape)
    x = normalized(layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs))
    for width, strides in ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1)):
        h = normalized(layers.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x))
        h = normalized(layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(h))
        h = normalized(layers.Conv2D(width, 1, use_bias=False)(h), relu=False)
        x = layers.Add()([x, h]) if strides == 1 and x.shape[-1] == width else h
    x = normalized(layers.Conv2D(128, 1, use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="mobilenet")


def resnet(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    return kd.models.build("resnet8", input_shape=input_shape, num_classes=num_classes)


STUDENTS = {"resnet": resnet, "mobilenet": mobilenet}


def pipeline(images: Images, seed: int, batch_size: int = BATCH_SIZE) -> Any:
    augment = [kd.data.PadAndCrop(1), kd.data.Flip()]
    return kd.data.Pipeline(
        (images.x, images.y), augment=augment, batch_size=batch_size, seed=seed, augment_seed=0, views=VIEWS
    )


def compiled(model: keras.Model, rate: float, steps: int) -> keras.Model:
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model


class Bench:
    """The trainings of one data set: where their files are, and what has been finished.

    Args:
        settings: of the data set.
        images: of it.
        state: a folder.
        record: the file of the finished trainings.
    """

    def __init__(self, settings: Settings, images: Images, state: Path, record: Path):
        self.settings, self.images, self.record = settings, images, record
        self.state = state / settings.data
        self.state.mkdir(parents=True, exist_ok=True)

    # The teacher.

    def teacher(self) -> keras.Model:
        path = self.state / "teacher.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            shape = self.images.x.shape[1:]
            teacher = kd.models.build("wrn_16_2", input_shape=shape, num_classes=10)
            batches = pipeline(self.images, 0, TEACHER_BATCH_SIZE)
            epochs = self.settings.teacher_epochs
            compiled(teacher, RATE, batches.steps_per_epoch * epochs)
            fit(teacher, batches, epochs, path.with_suffix(""), Log("teacher", every=1))
            save(teacher, path)
        return keras.models.load_model(path, compile=False)

    def with_teacher(self, batches: Any, teacher: keras.Model) -> tuple[Any, Any]:
        cached = kd.teachers.CachedTeacher.build(teacher, batches, self.state / "outputs", views=VIEWS)
        return batches.with_teacher(cached), cached

    # The students.

    def train(self, model: keras.Model, name: str, seed: int, teacher: Any, rate: float, epochs: int) -> None:
        """Trains a model in place, with the teacher unless it is None."""
        batches, trained = pipeline(self.images, seed), model
        if teacher is not None:
            batches, cached = self.with_teacher(batches, teacher)
            trained = kd.Distiller(cached, model, alpha=ALPHA, temperature=TEMPERATURE)
        compiled(trained, rate, batches.steps_per_epoch * epochs)
        folder = self.state / f"{name}.state"
        fit(trained, batches, epochs, folder, Log(name, every=1))
        kd.callbacks.Resume(folder).clear()

    def student(self, kind: str, seed: int, distilled: bool) -> keras.Model:
        name = f"{kind}-{seed}{'-distilled' if distilled else ''}"
        path = self.state / f"{name}.keras"
        if not path.exists():
            keras.utils.set_random_seed(seed)
            model = STUDENTS[kind](self.images.x.shape[1:], 10)
            teacher = self.teacher() if distilled else None
            self.train(model, name, seed, teacher, RATE, self.settings.epochs)
            save(model, path)
        return keras.models.load_model(path, compile=False)

    # The techniques.

    def compress(self, kind: str, seed: int, distilled: bool, technique: str) -> dict[str, Any]:
        """Fine-tunes the student with a technique, and exports it."""
        model = self.student(kind, seed, distilled)
        teacher = self.teacher() if distilled else None
        way = TECHNIQUES[technique]
        parts = max(1, len(way.transforms))
        epochs = self.settings.fine_tuning_epochs // parts
        steps = epochs * -(-len(self.images.x) // BATCH_SIZE)
        for number, make in enumerate(way.transforms or (None,), start=1):
            name = f"{kind}-{seed}-{distilled}-{technique}-{number}"
            done = self.state / f"{name}.keras"
            if done.exists():
                model = keras.models.load_model(done, compile=False)
                continue
            transform = make and make(steps, model)
            model = transform.apply(model, verbose=False) if transform else model
            keras.utils.set_random_seed(seed)
            self.train(model, name, seed, teacher, FINE_TUNING_RATE, epochs)
            quantized = way.format == "int8" and number == parts and transform
            model = model if transform is None or quantized else transform.strip(model)
            save(model, done)
        path = self.path(kind, seed, distilled, technique, "keras_kd")
        x = self.images.x
        calibration = x[:500] if way.format == "int8" else None
        kd.export.export_tflite(model, path, format=way.format, calibration=calibration, samples=x[:500])
        return self.measured(path) | {"zeros": zeros(stripped(model))}

    def compress_with_tfmot(self, kind: str, seed: int, technique: str) -> dict[str, Any]:
        """The same with TFMOT, from the student that was trained alone."""
        student = self.student(kind, seed, distilled=False)
        epochs = self.settings.fine_tuning_epochs
        model = finetuned_with_tfmot(technique, student, pipeline(self.images, seed), epochs, FINE_TUNING_RATE)
        path = self.path(kind, seed, False, technique, "tfmot")
        write_tf_keras(model, path, quantized=technique == "int8 while training")
        return self.measured(path) | {"zeros": zeros(model)}

    def path(self, kind: str, seed: int, distilled: bool, technique: str, tool: str) -> Path:
        words = [kind, seed, "distilled" if distilled else "alone", technique, tool]
        return self.state / ("-".join(map(str, words)).replace(" ", "_").replace("%", "").replace(":", "_") + ".tflite")

    def measured(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        outputs = TFLiteRunner(path).predict(self.images.x_test)
        return {
            "accuracy": accuracy(outputs, self.images.y_test),
            "num_bytes": len(data),
            "gzip_bytes": len(gzip.compress(data, 9)),
        }

    # The record.

    def rows(self) -> list[dict]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [row for row in map(json.loads, lines) if row["settings"] == dataclasses.asdict(self.settings)]

    def has(self, **key: Any) -> bool:
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows())

    def add(self, result: dict, **key: Any) -> None:
        with self.record.open("a") as file:
            file.write(json.dumps({**key, **result, "settings": dataclasses.asdict(self.settings)}) + "\n")
        print(*key.values(), {name: round(value, 4) for name, value in result.items()}, flush=True)


def run(bench: Bench, arguments: argparse.Namespace) -> None:
    wants = lambda part: arguments.only in (None, part)  # noqa: E731
    if wants("teacher"):
        bench.teacher()
    for seed in arguments.seeds:
        for kind in arguments.students:
            for distilled in (False, True):
                if wants("students"):
                    bench.student(kind, seed, distilled)
                for technique in TECHNIQUES if wants("compress") else ():
                    key = {"student": kind, "seed": seed, "distilled": distilled, "technique": technique}
                    if not bench.has(**key, tool="keras_kd"):
                        bench.add(bench.compress(*key.values()), **key, tool="keras_kd")
            for technique in TFMOT if wants("tfmot") else ():
                key = {"student": kind, "seed": seed, "technique": technique}
                if not bench.has(**key, distilled=False, tool="tfmot"):
                    bench.add(bench.compress_with_tfmot(*key.values()), **key, distilled=False, tool="tfmot")


def latencies(bench: Bench, kind: str, seed: int) -> dict[str, float]:
    """The median milliseconds of each technique's file of one seed, run in turn; none without files."""
    paths = {
        (tool, name): bench.path(kind, seed, False, name, tool) for tool in ("keras_kd", "tfmot") for name in TECHNIQUES
    }
    runners = {" ".join(key): TFLiteRunner(path) for key, path in paths.items() if path.exists()}
    found = compare_latency(runners, bench.images.x_test[:1], rounds=5) if runners else {}
    return {name: latency.p50_ms for name, latency in found.items()}


def spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.2f}" if values else "–"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def table(bench: Bench, kind: str, seed: int, times: dict[str, float]) -> list[list[str]]:
    """A line for each technique: accuracies of all seeds; sizes and latency of the files of one seed, trained alone."""
    rows = [row for row in bench.rows() if row["student"] == kind]

    def of(name, **key):
        return [row[name] for row in rows if all(row[k] == value for k, value in key.items())]

    lines = []
    for technique in TECHNIQUES:
        ours = {"technique": technique, "tool": "keras_kd", "seed": seed, "distilled": False}
        accuracies = [
            spread([100 * value for value in of("accuracy", technique=technique, tool=tool, distilled=distilled)])
            for tool, distilled in (("keras_kd", False), ("keras_kd", True), ("tfmot", False))
        ]
        sizes = [f"{statistics.mean(of(name, **ours)) / 1024:.1f}" for name in ("num_bytes", "gzip_bytes")]
        time = times.get(f"keras_kd {technique}")
        lines.append([bench.settings.data, kind, technique, *accuracies, *sizes, f"{time:.4f}" if time else "–"])
    return lines


HEADER = ["data", "student", "technique", "alone %", "distilled %", "TFMOT, alone %", "KiB", "gzip KiB", "p50 ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--data", nargs="*", default=["fashion_mnist", "cifar10_25k_packed"])
    parser.add_argument("--students", nargs="*", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_compression")
    parser.add_argument("--only", choices=["teacher", "students", "compress", "tfmot", "table"])
    parser.add_argument("--quick", action="store_true", help="1,000 images, 1 epoch; nothing is written to the docs")
    arguments = parser.parse_args()
    if not arguments.data_dir or not (Path(arguments.data_dir) / "load.py").exists():
        sys.exit("No data sets found: name their folder with --data-dir or KERAS_KD_DATA. Nothing was run.")
    quick = arguments.quick
    record = (arguments.state / "quick.jsonl") if quick else RESULTS / "compression_techniques.jsonl"
    record.parent.mkdir(parents=True, exist_ok=True)
    lines, all_times, all_rows = [], {}, []
    for data in arguments.data:
        settings = Settings(data, 1000, 1, 1, 3) if quick else Settings(data, 20_000, 12, 10, 3)
        images = load(Path(arguments.data_dir), settings)
        bench = Bench(settings, images, arguments.state / ("quick" if quick else "full"), record)
        run(bench, arguments)
        if arguments.only in (None, "table"):
            for kind in arguments.students:
                times = latencies(bench, kind, arguments.seeds[0])
                all_times[f"{data} {kind}"] = times
                lines += table(bench, kind, arguments.seeds[0], times)
            all_rows += bench.rows()
    if lines and quick:
        print(markdown(HEADER, lines))
    elif lines:
        write("compression_techniques", {"rows": all_rows, "p50_ms": all_times}, markdown(HEADER, lines))


if __name__ == "__main__":
    main()
