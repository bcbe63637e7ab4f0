"""The cost of the teacher: training with a live teacher, a cached one, none, and Keras' own Distiller.

    python benchmarks/teacher_cost.py [--rounds 7] [--pairs NAME ...] [--memory | --build | --shares]

All contenders of a pair run in one process, in turn, over the same augmented batches of one pipeline; ratios to the
plain student's `fit` are computed per round. Batch size and optimizer are those of the published CIFAR-100 tables. On
logits, Keras' Distiller gets `loss=KLDivergence()`, with which it computes the correct value; "logits and feature"
adds the mean squared error of the last stage's maps. Building the cache is compared with `teacher.predict` on the same
images, both without augmentation. `--memory` measures the peak memory of a plain and of a cached training, each in its
own process; `--shares` compares the teacher's forward pass with the student's step, by batch size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from common import RESULTS, markdown, ratio, rounds, show, write

import keras_kd as kd
from keras_kd.teachers import CachedTeacher
from keras_kd.teachers.cache.encodings import Rows, TopK

TEMPERATURE = 4.0
BATCH_SIZE = 64
STEPS = 4
SHAPE = (32, 32, 3)
NUM_CLASSES = 100
LAYER = "stage_3"
SHARES = ("forward / step", "step / step without XLA")
PAIRS = {"resnet32x4 to resnet8x4": ("resnet32x4", "resnet8x4"), "wrn_40_2 to wrn_16_2": ("wrn_40_2", "wrn_16_2")}


def build(name):
    keras.utils.set_random_seed(0)
    return kd.models.build(name, input_shape=SHAPE, num_classes=NUM_CLASSES)


def data(steps=STEPS, augment=True):
    rng = np.random.default_rng(0)
    x = rng.random((BATCH_SIZE * steps, *SHAPE), "float32")
    y = rng.integers(0, NUM_CLASSES, BATCH_SIZE * steps)
    return kd.data.Pipeline(
        (x, y), augment=[kd.data.PadAndCrop(4), kd.data.Flip()] if augment else None, batch_size=BATCH_SIZE
    )


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=5e-4), loss=loss, metrics=["accuracy"])
    return model


def keras_distiller(teacher, student, *, feature):
    losses = [
        keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=keras.losses.KLDivergence()),
        keras.distillation.FeatureDistillation(loss="mse", teacher_layer_name=LAYER, student_layer_name=LAYER),
    ]
    return keras.distillation.Distiller(teacher, student, distillation_losses=losses if feature else losses[:1])


def fits(model, pipeline):
    compiled(model)
    return lambda: model.fit(pipeline, verbose=0)


def contenders(teacher, student, folder):
    """A function per contender that trains one short epoch."""
    pipeline = data()
    caches = {
        "cached": CachedTeacher.build(teacher, pipeline, folder / "full", progress=False),
        "cached, top-10": CachedTeacher.build(teacher, pipeline, folder / "top", top_k=10, progress=False),
    }
    pipeline.views = 1  # every contender sees the single cached view
    ours = {
        name: fits(kd.Distiller(cached, build(student), temperature=TEMPERATURE), pipeline.with_teacher(cached))
        for name, cached in caches.items()
    }
    return {
        "plain student": fits(build(student), pipeline),
        "live": fits(kd.Distiller(teacher, build(student), temperature=TEMPERATURE), pipeline),
        **ours,
        "keras.distillation, logits": fits(keras_distiller(teacher, build(student), feature=False), pipeline),
        "keras.distillation, logits and feature": fits(
            keras_distiller(teacher, build(student), feature=True), pipeline
        ),
    }


def building(teacher, folder, num_rounds):
    """Seconds per image for building a cache and for `predict`, in turn, over the same images in batches of 64.

    Compilation is excluded: `predict` has already run once, and the build is timed from its first batch. The seconds
    before that batch are returned separately.
    """
    pipeline = data(steps=8, augment=False)
    images = pipeline.batch(np.arange(pipeline.num_examples))[0]
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can delay the end of an iteration by the iteration's own duration
    x = tf.data.Dataset.from_tensor_slices(images).batch(64).with_options(options)
    seconds = {"teacher.predict": [], "cache build": []}
    starts = []
    teacher.predict(x, verbose=0)
    for number in range(num_rounds):
        begin = time.perf_counter()
        teacher.predict(x, verbose=0)
        seconds["teacher.predict"].append((time.perf_counter() - begin) / len(images))
        begin = time.perf_counter()
        first, count = first_batch_of_build(teacher, pipeline, folder / f"{number}")
        seconds["cache build"].append((time.perf_counter() - first) / (len(images) - count))
        starts.append(first - begin)
    return seconds, starts


def first_batch_of_build(teacher, pipeline, folder):
    """Builds a cache; returns the time at which its first batch was written, and that batch's number of images."""
    done = []
    CachedTeacher.build(teacher, pipeline, folder, progress=lambda count: done.append((time.perf_counter(), count)))
    return next((moment, count) for moment, count in done if count)


def sizes():
    """Bytes of one example in one view."""
    return {
        f"{classes:,} classes": {
            "whole row": Rows((classes,)).num_bytes,
            **{f"top-{k}": TopK(k, classes).num_bytes for k in (10, 100) if k < classes},
        }
        for classes in (10, 100, 1000)
    }


def train_once(kind, folder):
    """Runs one training and prints the peak memory of this process in MiB."""
    pipeline, student = data(steps=8), build("resnet8x4")
    model = student
    if kind == "cached":
        cached = CachedTeacher.open(folder)
        pipeline, model = pipeline.with_teacher(cached), kd.Distiller(cached, student)
    compiled(model).fit(pipeline, epochs=2, verbose=0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(num_rounds):
    """Peak memory in MiB by kind, each training in its own process, in turn."""
    peaks = {"plain student": [], "cached": []}
    with tempfile.TemporaryDirectory() as folder:
        CachedTeacher.build(build("resnet32x4"), data(steps=8), folder, views=2, progress=False)
        for _ in range(num_rounds):
            for kind in peaks:
                command = [sys.executable, __file__, "--train-once", kind, folder]
                run = subprocess.run(command, capture_output=True, text=True, check=True)
                peaks[kind].append(float(run.stdout.split()[-1]))
    return {"MiB": peaks, "cached / plain": ratio(peaks["cached"], peaks["plain student"])}


def measure(name, num_rounds):
    teacher, student = PAIRS[name]
    with tempfile.TemporaryDirectory() as folder:
        seconds = rounds(contenders(build(teacher), student, Path(folder)), num_rounds, warmup=2)
    plain = seconds["plain student"]
    ratios = {f"{key} / plain": ratio(value, plain) for key, value in seconds.items() if key != "plain student"}
    for theirs in ("keras.distillation, logits", "keras.distillation, logits and feature"):
        ratios[f"{theirs} / cached"] = ratio(seconds[theirs], seconds["cached"])
    return {"rounds": num_rounds, "seconds": seconds, "ratios": ratios} | measure_build(name, num_rounds)


def measure_build(name, num_rounds):
    with tempfile.TemporaryDirectory() as folder:
        seconds, starts = building(build(PAIRS[name][0]), Path(folder), num_rounds)
    return {
        "seconds_an_image": seconds,
        "seconds_before_the_first_batch_of_a_build": starts,
        "rate of the build / predict": ratio(seconds["teacher.predict"], seconds["cache build"]),
    }


def shares(num_rounds):
    """The time of the teacher's forward pass relative to the student's step in the first pair, by batch size.

    Adding 1 gives the relative time of a live step. Batches come from memory, so only these two are timed. XLA is also
    measured, with its step relative to the one without XLA.
    """
    (teacher, student), *_ = PAIRS.values()
    teacher = build(teacher)
    found, plain = {}, None
    for batch_size, jit in ((64, False), (128, False), (256, False), (64, True)):
        x = tf.constant(np.random.default_rng(0).random((batch_size, *SHAPE), "float32"))
        y = tf.zeros(batch_size, "int32")
        forward, model = tf.function(lambda x: teacher(x, training=False), jit_compile=jit), build(student)
        compiled(model).jit_compile = jit
        count = 256 // batch_size
        contestants = {
            "forward": lambda: [forward(x).numpy() for _ in range(count)],  # noqa: B023
            "step": lambda: [model.train_on_batch(x, y) for _ in range(count)],  # noqa: B023
        }
        seconds = rounds(contestants, num_rounds)
        key = f"batches of {batch_size}" + ", XLA" * jit
        found[key] = {"forward / step": ratio(seconds["forward"], seconds["step"])}
        plain = plain or seconds["step"]
        if jit:
            found[key]["step / step without XLA"] = ratio(seconds["step"], plain)
    return found


def tables(results):
    header = ["cost / plain student's fit", *results["pairs"]]
    keys = next(iter(results["pairs"].values()))["ratios"]
    rows = [[key, *(show(pair["ratios"][key]) for pair in results["pairs"].values())] for key in keys]
    key = "rate of the build / predict"
    rows.append([key, *(show(pair[key]) for pair in results["pairs"].values())])
    columns = ["whole row", "top-10", "top-100"]
    bytes_rows = [[name, *(f"{row.get(c, '–')}" for c in columns)] for name, row in results["bytes"].items()]
    bytes_rows.append(["TinyViT's published layout", "–", "44", "404"])
    text = f"{markdown(header, rows)}\n\n{markdown(['bytes per example and view', *columns], bytes_rows)}"
    if peaks := results.get("memory"):
        mid = {kind: sorted(values)[len(values) // 2] for kind, values in peaks["MiB"].items()}
        text += (
            f"\n\nPeak memory of a training, a process each: plain {mid['plain student']:.0f} MiB, cached "
            f"{mid['cached']:.0f} MiB, ratio {show(peaks['cached / plain'])}."
        )
    if by_size := results.get("shares"):
        rows = [[key, *(show(of[k]) if k in of else "" for k in SHARES)] for key, of in by_size.items()]
        text += f"\n\n{markdown([f'{next(iter(PAIRS))}, fed from memory', *SHARES], rows)}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--memory", action="store_true", help="measure peak memory only")
    parser.add_argument("--build", action="store_true", help="measure the build of the cache only")
    parser.add_argument("--shares", action="store_true", help="measure the teacher's forward pass and the step only")
    parser.add_argument("--train-once", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train_once:
        train_once(*arguments.train_once)
        return
    before = RESULTS / "teacher_cost.json"
    results = json.loads(before.read_text()) if before.exists() else {"pairs": {}}
    if arguments.memory:
        results["memory"] = memory(arguments.rounds)
    elif arguments.shares:
        results["shares"] = shares(arguments.rounds)
    elif arguments.build:
        for name in arguments.pairs:
            results["pairs"][name] |= measure_build(name, arguments.rounds)
    else:
        results["pairs"] |= {name: measure(name, arguments.rounds) for name in arguments.pairs}
    results["bytes"] = sizes()
    write("teacher_cost", results, tables(results))


if __name__ == "__main__":
    main()
