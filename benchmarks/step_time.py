"""What a step of distillation costs: plain student, our Distiller, Keras' own, and the teacher's inference alone.

    python benchmarks/step_time.py [--rounds 9] [--steps 60]

All run in one process, in turn, over the same batches; ratios are taken round by round. Keras' Distiller gets
`loss=KLDivergence()`, with which it computes the right number.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf
from common import markdown, ratio, rounds, show, total, write

import keras_kd as kd

BATCH_SIZE = 64
TEMPERATURE = 4.0
PAIRS = {"digits, 8x8x1": (8, 8, 1), "32x32x3": (32, 32, 3)}


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(shape):
    keras.utils.set_random_seed(0)
    teacher = kd.models.build("digits_teacher", input_shape=shape, num_classes=10)
    student = kd.models.build("digits_student", input_shape=shape, num_classes=10)
    return teacher, student


def contenders(shape, steps):
    """A function per contender that runs `steps` steps."""
    rng = np.random.default_rng(0)
    x = rng.random((BATCH_SIZE * steps, *shape), "float32")
    y = rng.integers(0, 10, BATCH_SIZE * steps)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can hold up the end of an iteration by as long as that took
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH_SIZE).cache().prefetch(2).with_options(options)

    def fit(model):
        model.compile(keras.optimizers.Adam(1e-3), loss=from_logits(), metrics=["accuracy"])
        return lambda: model.fit(data, shuffle=False, verbose=0)

    teacher, _ = build(shape)
    infer = tf.function(lambda x: teacher(x, training=False))
    ours = kd.Distiller(build(shape)[0], build(shape)[1], alpha=0.5, temperature=TEMPERATURE)
    term = keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=keras.losses.KLDivergence())
    theirs = keras.distillation.Distiller(*build(shape), distillation_losses=term)

    def run_teacher():
        for batch, _ in data:
            infer(batch)

    return {
        "plain student": fit(build(shape)[1]),
        "teacher inference": run_teacher,
        "keras_kd": fit(ours),
        "keras.distillation": fit(theirs),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    results, rows = {}, []
    for name, shape in PAIRS.items():
        seconds = rounds(contenders(shape, arguments.steps), arguments.rounds, warmup=2)
        floor = total(seconds["plain student"], seconds["teacher inference"])
        ratios = {
            "ours / (plain + teacher)": ratio(seconds["keras_kd"], floor),
            "ours / keras.distillation": ratio(seconds["keras_kd"], seconds["keras.distillation"]),
            "keras.distillation / (plain + teacher)": ratio(seconds["keras.distillation"], floor),
        }
        per_step = {key: 1000 * sorted(value)[len(value) // 2] / arguments.steps for key, value in seconds.items()}
        results[name] = {"seconds": seconds, "ratios": ratios, "median_ms_per_step": per_step}
        rows.append([name, *(f"{value:.1f}" for value in per_step.values()), *map(show, ratios.values())])
    header = ["pair", *(f"{key}, ms" for key in per_step), *ratios]
    settings = {"batch_size": BATCH_SIZE, "steps": arguments.steps, "rounds": arguments.rounds}
    write("step_time", {"settings": settings, "pairs": results}, markdown(header, rows))


if __name__ == "__main__":
    main()
