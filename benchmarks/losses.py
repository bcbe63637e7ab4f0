"""Accuracy and cost of every loss on real images, with the same small student, teacher and steps.

    python benchmarks/losses.py --data-dir DIR [--part teachers|students|timing|table] [--only NAME ...]

`DIR` (or KERAS_KD_DATA) holds `cifar10_25k_packed.npz`, `fashion_mnist.npz` and their reader `load.py`. The teacher
(wrn_16_2, 8.1 times the student's multiply-adds) is trained on all training images, the student (resnet8) on 5,000 of
them, at half resolution, so that two cores finish all losses, 3 seeds and two data sets in about an hour. The teacher
outputs for the 5,000 images are computed once and stored; there is no augmentation. Finished trainings are kept in
`results/losses.jsonl` and not repeated; the teacher's training resumes from its last epoch.

The weights are from each paper's published code, in its own form `ce * cross-entropy + weight * loss`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from common import DOCS, RESULTS, markdown, ratio, rounds, show, write
from images import Images, accuracy, halve, read
from matplotlib.figure import Figure

import keras_kd as kd

BATCH_SIZE = 64
NUM_IMAGES = 5000
NUM_TEST = 10000
TEACHER_EPOCHS = {"cifar10": 10, "fashion_mnist": 5}
STUDENT_EPOCHS = 6
SEEDS = (0, 1, 2)
FILES = {"cifar10": "cifar10_25k_packed", "fashion_mnist": "fashion_mnist"}
RECORD = RESULTS / "losses.jsonl"
STAGES = ("stage_1", "stage_2", "stage_3")
WARMUP_STEPS = NUM_IMAGES * STUDENT_EPOCHS // BATCH_SIZE // 12  # 20 of 240 epochs in the published code


@dataclasses.dataclass(frozen=True)
class Method:
    """`ce * cross-entropy + sum(weight * loss)`, with losses written as in a recipe."""

    losses: tuple[dict, ...] = ()
    ce: float = 1.0
    from_keras: str | None = None


def on_stages(name, weight, suffix="", **settings):
    """The same loss on each of the three stages."""
    return Method(
        tuple(
            {"name": name, "teacher": f"{stage}{suffix}", "student": f"{stage}{suffix}", "weight": weight, **settings}
            for stage in STAGES
        )
    )


def on_pool(name, weight, **settings):
    return Method(({"name": name, "teacher": "pool", "student": "pool", "weight": weight, **settings},))


SOFT = {"name": "soft_targets", "temperature": 4.0}
ALL = {"teacher": list(STAGES), "student": list(STAGES)}
PREACT = [f"{stage}_preact" for stage in STAGES]
REVIEWED = {"teacher": [*PREACT, "pool"], "student": [*STAGES, "pool"]}
METHODS = {
    "no teacher": Method(),
    "SoftTargets": Method(({**SOFT, "weight": 0.9},), ce=0.1),
    "LogitRegression": Method(({"name": "logit_regression", "weight": 1.0},), ce=0.0),
    "LogitStandardization": Method(
        ({"name": "logit_standardization", "loss": {"name": "soft_targets", "temperature": 2.0}, "weight": 9.0},),
        ce=0.1,
    ),
    "DecoupledKD": Method(({"name": "decoupled_kd", "temperature": 4.0, "warmup_steps": WARMUP_STEPS, "weight": 1.0},)),
    "CorrelationKD": Method(
        ({"name": "correlation_kd", "temperature": 1.0, "inter_weight": 2.0, "intra_weight": 2.0, "weight": 1.0},)
    ),
    "Hint": Method(({"name": "hint", "teacher": "stage_2", "student": "stage_2", "weight": 100.0},)),
    "AttentionTransfer": on_stages("attention_transfer", 1000.0),
    "AttentionTransfer, weight 250": on_stages("attention_transfer", 250.0),
    "FlowOfSolution": Method(({"name": "flow_of_solution", **ALL, "weight": 1.0},)),
    "NeuronSelectivity": on_stages("neuron_selectivity", 50.0),
    "SimilarityPreserving": Method(
        ({"name": "similarity_preserving", "teacher": "stage_3", "student": "stage_3", "weight": 3000.0},)
    ),
    "RelationalKD": on_pool("relational_kd", 1.0),
    "ProbabilisticTransfer": on_pool("probabilistic_transfer", 30000.0),
    "ContrastiveKD": on_pool("contrastive_kd", 0.8, memory_size=1024),
    "VariationalInformation": on_stages("variational_information", 1.0),
    "FeatureOverhaul": Method(({"name": "feature_overhaul", "teacher": PREACT, "student": PREACT, "weight": 1e-3},)),
    "KnowledgeReview": Method(({"name": "knowledge_review", **REVIEWED, "warmup_steps": WARMUP_STEPS, "weight": 5.0},)),
    "SoftTargets + Hint": Method(
        ({**SOFT, "weight": 0.9}, {"name": "hint", "teacher": "stage_2", "student": "stage_2", "weight": 100.0}), ce=0.1
    ),
    "keras.distillation, default": Method(ce=0.1, from_keras="default"),
    "keras.distillation, KLDivergence": Method(ce=0.1, from_keras="divergence"),
}


# Data and teacher.


def load(name, data_dir):
    """Images at half resolution, each channel with mean 0 and standard deviation 1 over the training images."""
    arrays = read(data_dir, FILES[name])
    order = np.random.default_rng(0).permutation(len(arrays["x_train"]))[:25000]
    x, x_test = (halve(arrays[key]) for key in ("x_train", "x_test"))
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    y, y_test = (arrays[key].astype("int64") for key in ("y_train", "y_test"))
    return Images(x[order], y[order], x_test[:NUM_TEST], y_test[:NUM_TEST])


def build(name, images):
    return kd.models.build(name, input_shape=images.x.shape[1:], num_classes=10)


def optimizer(steps, scale=1.0):
    """SGD down a cosine; `scale` multiplies the rate, for losses of another scale, but not the weight decay."""
    schedule = keras.optimizers.schedules.CosineDecay(0.05 * scale, steps)
    return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4 / scale)


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def teacher_for(name, images, state):
    """The trained teacher, trained if necessary on 25,000 randomly flipped images."""
    path = state / f"{name}_teacher.keras"
    if path.exists():
        return keras.models.load_model(path)
    keras.utils.set_random_seed(0)
    teacher = build("wrn_16_2", images)
    steps = len(images.x) // 128
    teacher.compile(optimizer(steps * TEACHER_EPOCHS[name]), from_logits(), metrics=["accuracy"])
    resume = kd.callbacks.Resume(state / f"{name}_teacher", every_seconds=30.0, keep_finished=True)
    first = resume.restore(teacher)
    teacher.fit(
        Batches({"image": images.x}, images.y, seed=0, batch_size=128, first_epoch=first, flip=True, only="image"),
        initial_epoch=first,
        epochs=TEACHER_EPOCHS[name],
        callbacks=[resume],
        shuffle=False,
        verbose=2,
    )
    teacher.save(path)
    print(f"{name}: the teacher has {accuracy(teacher, images):.4f}", flush=True)
    return teacher


class Batches(keras.utils.PyDataset):
    """Batches of stored arrays in an order that depends only on seed and epoch."""

    def __init__(self, arrays, y, *, seed, batch_size=BATCH_SIZE, first_epoch=0, flip=False, only=None):
        super().__init__()
        self.arrays, self.y, self.only = arrays, y, only
        self.seed, self.batch_size, self.epoch, self.flip = seed, batch_size, first_epoch, flip
        self._shuffle()

    def __len__(self):
        return len(self.y) // self.batch_size

    def __getitem__(self, index):
        rows = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        x = {name: array[rows] for name, array in self.arrays.items()}
        if self.flip:
            mirrored = self.rng.random(len(rows)) < 0.5
            x["image"] = np.where(mirrored[:, None, None, None], x["image"][:, :, ::-1], x["image"])
        return x if self.only is None else x[self.only], self.y[rows]

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()

    def _shuffle(self):
        self.rng = np.random.default_rng((self.seed, self.epoch))
        self.order = self.rng.permutation(len(self.y))


# Students.


class StoredTeacher(kd.teachers.Teacher):
    """Stored teacher outputs, carried by the batch as `{"image": ..., tap: ...}`."""

    def __init__(self, stored):
        self.shapes = {name: (None, *array.shape[1:]) for name, array in stored.items()}

    def __call__(self, batch, taps=()):
        return kd.teachers.ModelOutputs({"output": batch.x["output"]}, {path: batch.x[path] for path in taps})

    def inner_taps(self, names):
        return {name: self.shapes[name] for name in names if name != "output"}

    @property
    def fingerprint(self):
        return "stored"

    @property
    def output_shapes(self):
        return {"output": self.shapes["output"]}


def stored_outputs(teacher, images):
    """The teacher's logits and taps for the student's images, by name."""
    taps = [*STAGES, *PREACT, "pool"]
    model = keras.Model(teacher.inputs[0], {"output": teacher.output, **{t: teacher.get_layer(t).output for t in taps}})
    return model.predict(images.x[:NUM_IMAGES], batch_size=250, verbose=0)


def image_of(x):
    return x["image"]


def losses_of(method):
    """The published form with alpha = 0.5: all weights are doubled to cancel the factor of one half."""
    return [kd.losses.get({**loss, "weight": 2 * loss["weight"]}) for loss in method.losses]


def compiled(model, steps, ce):
    model.compile(optimizer(steps), loss=from_logits(), loss_weights=2 * ce, jit_compile=False)
    return model


def trainable(method, student, images, teacher, steps):
    """The model to fit for a method: with stored outputs if `teacher` is a dict of them, else with a live teacher."""
    if method.from_keras:
        return keras_distiller(method, student, images, teacher, steps)
    if not method.losses:
        student.compile(optimizer(steps), loss=from_logits(), jit_compile=False)
        return student
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kd.errors.Notice)
        distiller = kd.Distiller(
            StoredTeacher(teacher) if isinstance(teacher, dict) else teacher,
            student,
            alpha=0.5,
            losses=losses_of(method),
            teacher_inputs=None if isinstance(teacher, dict) else image_of,
            student_inputs=image_of,
        )
    return compiled(distiller, steps, method.ce)


def keras_distiller(method, student, images, teacher, steps):
    """Keras' own Distiller, with the weights of `SoftTargets`; an identity teacher passes stored logits through."""
    image = keras.Input(images.x.shape[1:], name="image")
    if isinstance(teacher, dict):
        logits = keras.Input((10,), name="output")
        inputs = {"image": image, "output": logits}
        teacher = keras.Model(inputs, keras.layers.Identity()(logits))
        student = keras.Model(inputs, student(image))
    settings = {} if method.from_keras == "default" else {"loss": keras.losses.KLDivergence()}
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        distillation_losses=keras.distillation.LogitsDistillation(temperature=4.0, **settings),
        student_loss_weight=method.ce,
    )
    distiller.compile(optimizer(steps), loss=from_logits(), jit_compile=False)
    return distiller


def read_by(method, stored):
    """The stored outputs that the method reads; the batch carries no others."""
    names = {name for loss in method.losses for name in np.atleast_1d(loss.get("teacher", "output"))}
    names |= {"output"} if method.losses or method.from_keras else set()
    return {name: stored[name] for name in names}


def train(method, images, stored, seed):
    keras.utils.set_random_seed(seed)
    student = build("resnet8", images)
    steps = NUM_IMAGES // BATCH_SIZE * STUDENT_EPOCHS
    model = trainable(method, student, images, stored, steps)
    arrays = {"image": images.x[:NUM_IMAGES], **read_by(method, stored)}
    alone = "image" if model is student else None
    batches = Batches(arrays, images.y[:NUM_IMAGES], seed=seed, only=alone)
    start = time.perf_counter()
    history = model.fit(batches, epochs=STUDENT_EPOCHS, shuffle=False, verbose=0).history
    return {
        "accuracy": accuracy(student, images),
        "seconds": time.perf_counter() - start,
        "loss": float(history["loss"][-1]),
    }


def students(data, state, only):
    done = {(row["data"], row["method"], row["seed"]) for row in recorded()}
    stored = {name: stored_outputs(teacher_for(name, images, state), images) for name, images in data.items()}
    for seed, (name, images), (key, method) in itertools.product(SEEDS, data.items(), METHODS.items()):
        if (name, key, seed) in done or (only and key not in only):
            continue
        keras.backend.clear_session()
        row = {"data": name, "method": key, "seed": seed, **train(method, images, stored[name], seed)}
        with RECORD.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name:14} {key:34} seed {seed} {row['accuracy']:.4f} {row['seconds']:.0f} s", flush=True)


def recorded():
    return [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.exists() else []


# Step time.


def timing(data, state, num_rounds, steps):
    """Each method's step time relative to the plain student's, with the live teacher and with its stored outputs."""
    images = data["cifar10"]
    teacher = teacher_for("cifar10", images, state)
    stored = stored_outputs(teacher, images)
    ratios = {}
    for way, source in (("stored", stored), ("live", teacher)):
        contenders = {}
        for key, method in METHODS.items():
            if way == "stored" and method.from_keras:
                continue
            model = trainable(method, build("resnet8", images), images, source, 1000)
            arrays = {"image": images.x[: steps * BATCH_SIZE]}
            if way == "stored":
                arrays |= {name: values[: steps * BATCH_SIZE] for name, values in read_by(method, stored).items()}
            is_plain = not method.losses and not method.from_keras
            x = arrays["image"] if is_plain or method.from_keras else arrays
            options = tf.data.Options()
            options.autotune.enabled = False
            batches = tf.data.Dataset.from_tensor_slices((x, images.y[: steps * BATCH_SIZE])).batch(BATCH_SIZE)
            batches = batches.cache().prefetch(2).with_options(options)
            contenders[key] = lambda model=model, batches=batches: model.fit(batches, shuffle=False, verbose=0)
        if way == "live":
            only_images = tf.data.Dataset.from_tensor_slices(images.x[: steps * BATCH_SIZE]).batch(BATCH_SIZE)
            contenders["teacher inference"] = functools.partial(
                teacher.predict, only_images.cache().with_options(options), verbose=0
            )
        seconds = rounds(contenders, num_rounds, warmup=2)
        ratios[way] = {key: ratio(values, seconds["no teacher"]) for key, values in seconds.items()}
        print(way, {key: round(value["median"], 3) for key, value in ratios[way].items()}, flush=True)
    (RESULTS / "losses_timing.json").write_text(json.dumps(ratios, indent=1) + "\n")


def table(data, state):
    rows, results = [], {}
    timings = RESULTS / "losses_timing.json"
    ratios = json.loads(timings.read_text()) if timings.exists() else {"stored": {}, "live": {}}
    record = recorded()
    teachers = {name: accuracy(teacher_for(name, images, state), images) for name, images in data.items()}
    for key in METHODS:
        row = [key]
        for name in data:
            values = [100 * row["accuracy"] for row in record if (row["data"], row["method"]) == (name, key)]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            row.append(f"{statistics.mean(values):.2f}{spread}" if values else "–")
            results.setdefault(name, {})[key] = values
        row += [show(ratios[way][key]) if key in ratios[way] else "–" for way in ("stored", "live")]
        rows.append(row)
    header = ["method", *(f"{name} %" for name in data), "step / plain, stored", "step / plain, live"]
    settings = {
        "student": "resnet8",
        "teacher": "wrn_16_2",
        "teacher_accuracy": teachers,
        "images": NUM_IMAGES,
        "epochs": STUDENT_EPOCHS,
        "batch_size": BATCH_SIZE,
        "seeds": SEEDS,
    }
    note = ", ".join(f"{name} {100 * value:.2f}%" for name, value in teachers.items())
    inference = ratios["live"].get("teacher inference")
    note = f"Teacher: {note}." + (f" Its inference alone: {show(inference)} plain steps." if inference else "")
    draw(results)
    write(
        "losses",
        {"settings": settings, "accuracy": results, "step_time": ratios},
        markdown(header, rows) + f"\n\n{note}",
    )


def draw(accuracy):
    """Plots each method's mean and spread, and a line at the accuracy of the student alone."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    names = list(reversed(METHODS))
    panels = figure.subplots(1, len(accuracy), sharey=True, squeeze=False)[0]
    for axes, (data, values) in zip(panels, accuracy.items(), strict=True):
        means = [statistics.mean(values[name]) if values[name] else float("nan") for name in names]
        spreads = [statistics.stdev(values[name]) if len(values[name]) > 1 else 0.0 for name in names]
        colors = [
            "#d95f02" if name.startswith("keras") else "#555555" if name == "no teacher" else "#1b6ca8"
            for name in names
        ]
        axes.errorbar(means, range(len(names)), xerr=spreads, fmt="none", ecolor="#999999", capsize=3, zorder=1)
        axes.scatter(means, range(len(names)), c=colors, zorder=2)
        axes.axvline(means[names.index("no teacher")], color="#555555", linewidth=1, linestyle=":")
        low = min(
            value for name, value in zip(names, means, strict=True) if not name.startswith("keras") and value == value
        )
        axes.set(title=data, xlabel="test accuracy %", yticks=range(len(names)), yticklabels=names)
        axes.set_xlim(left=low - 4)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(DOCS.parent / "losses.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--data", nargs="*", default=list(FILES), choices=list(FILES))
    parser.add_argument("--part", nargs="*", default=["teachers", "students", "timing", "table"])
    parser.add_argument("--only", nargs="*", help="methods to train")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_losses")
    arguments = parser.parse_args()
    if arguments.data_dir is None or not Path(arguments.data_dir).exists():
        sys.exit("The data is not there: pass --data-dir or set KERAS_KD_DATA.")
    arguments.state.mkdir(parents=True, exist_ok=True)
    data = {name: load(name, Path(arguments.data_dir)) for name in arguments.data}
    if "teachers" in arguments.part:
        for name, images in data.items():
            teacher_for(name, images, arguments.state)
    if "students" in arguments.part:
        students(data, arguments.state, arguments.only)
    if "timing" in arguments.part:
        timing(data, arguments.state, arguments.rounds, arguments.steps)
    if "table" in arguments.part:
        table(data, arguments.state)


if __name__ == "__main__":
    main()
