"""What a step of distillation costs: plain student, our Distiller, Keras' own, and the teacher's inference alone.

    python benchmarks/step_time.py [--rounds 9] [--pairs NAME ...]

All run in one process, in turn, over the same batches; ratios are taken round by round. On logits Keras' Distiller gets
`loss=KLDivergence()`, with which it computes the right number. On features both compare the last stage's maps, of one
shape in this pair (Keras has no projector), by their mean square.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf
from common import RESULTS, markdown, ratio, rounds, show, total, write

import keras_kd as kd

TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher and a student, what they are compared by, and how much of it is timed."""

    teacher: str
    student: str
    shape: tuple[int, int, int]
    batch_size: int
    steps: int
    layer: str | None = None

    def build(self):
        keras.utils.set_random_seed(0)
        return tuple(
            kd.models.build(name, input_shape=self.shape, num_classes=10) for name in (self.teacher, self.student)
        )

    def ours(self):
        if self.layer is None:
            return [kd.losses.SoftTargets(temperature=TEMPERATURE)]
        return [kd.losses.Hint(teacher=self.layer, student=self.layer)]

    def theirs(self):
        if self.layer is None:
            loss = keras.losses.KLDivergence()
            return keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=loss)
        return keras.distillation.FeatureDistillation(
            loss="mse", teacher_layer_name=self.layer, student_layer_name=self.layer
        )


PAIRS = {
    "digits, 8x8x1, logits": Pair("digits_teacher", "digits_student", (8, 8, 1), 64, 60),
    "digits models, 32x32x3, logits": Pair("digits_teacher", "digits_student", (32, 32, 3), 64, 60),
    "resnet32x4 to resnet8x4, features": Pair("resnet32x4", "resnet8x4", (32, 32, 3), 32, 4, layer="stage_3"),
}


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def contenders(pair):
    """A function per contender that runs the pair's steps."""
    rng = np.random.default_rng(0)
    x = rng.random((pair.batch_size * pair.steps, *pair.shape), "float32")
    y = rng.integers(0, 10, pair.batch_size * pair.steps)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can hold up the end of an iteration by as long as that took
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(pair.batch_size).cache().prefetch(2).with_options(options)

    def fit(model):
        model.compile(keras.optimizers.Adam(1e-3), loss=from_logits(), metrics=["accuracy"])
        return lambda: model.fit(data, shuffle=False, verbose=0)

    teacher, _ = pair.build()
    infer = tf.function(lambda x: teacher(x, training=False))
    ours = kd.Distiller(*pair.build(), alpha=0.5, losses=pair.ours())
    theirs = keras.distillation.Distiller(*pair.build(), distillation_losses=pair.theirs())

    def run_teacher():
        for batch, _ in data:
            infer(batch)

    return {
        "plain student": fit(pair.build()[1]),
        "teacher inference": run_teacher,
        "keras_kd": fit(ours),
        "keras.distillation": fit(theirs),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    arguments = parser.parse_args()
    rows, before = [], RESULTS / "step_time.json"
    results = json.loads(before.read_text())["pairs"] if before.exists() else {}
    for name in arguments.pairs:
        pair = PAIRS[name]
        seconds = rounds(contenders(pair), arguments.rounds, warmup=2)
        floor = total(seconds["plain student"], seconds["teacher inference"])
        ratios = {
            "ours / (plain + teacher)": ratio(seconds["keras_kd"], floor),
            "ours / keras.distillation": ratio(seconds["keras_kd"], seconds["keras.distillation"]),
            "keras.distillation / (plain + teacher)": ratio(seconds["keras.distillation"], floor),
        }
        per_step = {key: 1000 * sorted(value)[len(value) // 2] / pair.steps for key, value in seconds.items()}
        results[name] = {
            "pair": dataclasses.asdict(pair),
            "rounds": arguments.rounds,
            "seconds": seconds,
            "ratios": ratios,
            "median_ms_per_step": per_step,
        }
    for name in PAIRS:  # those of an earlier run stand where a pair was not run now
        if name in results:
            values = [f"{value:.1f}" for value in results[name]["median_ms_per_step"].values()]
            rows.append([name, *values, *map(show, results[name]["ratios"].values())])
    some = results[next(iter(results))]
    header = ["pair", *(f"{key}, ms" for key in some["median_ms_per_step"]), *some["ratios"]]
    write("step_time", {"pairs": results}, markdown(header, rows))


if __name__ == "__main__":
    main()
