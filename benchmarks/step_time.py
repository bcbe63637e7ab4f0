"""The cost of a distillation step: plain student, our Distiller, Keras' own, and teacher inference alone.

    python benchmarks/step_time.py [--rounds 9] [--pairs NAME ...]
    python benchmarks/step_time.py --backend jax [--rounds 9] [--pairs NAME ...] [--write-only]
    python benchmarks/step_time.py --whole-epochs [--rounds 5] [--pairs NAME ...] [--scratch FILE.json]

The second form compares our step with plain student and teacher on JAX, and writes results/step_time_jax.json and its
table, including the machine's load; `--write-only` writes the table from that file without measuring. The third times
whole epochs of `fit(x, y)` on arrays, as a user writes it, where tf.data's autotuner may delay the end of an epoch. It
saves after each row and resumes after an interruption; `--scratch` keeps the rows in a separate file and leaves the
results and the docs unchanged.

All run in one process, in turn, over the same batches; ratios are computed per round. On logits, Keras' Distiller gets
`loss=KLDivergence()`, with which it computes the correct value. On features, both use the mean squared error of the
last stage's maps, which have the same shape in this pair (Keras has no projector).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

if "--backend" in sys.argv:  # read when Keras is imported
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]

import keras
import numpy as np
from common import RESULTS, environment, markdown, ratio, rounds, show, total, write

import keras_kd as kd

TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher and a student, the layer that the loss compares (None: the logits), and the number of timed steps."""

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


EPOCHS = {  # for epochs of 0.5 to 20 s on two cores
    "digits, 150 steps": dataclasses.replace(PAIRS["digits, 8x8x1, logits"], steps=150),
    "digits, 600 steps": dataclasses.replace(PAIRS["digits, 8x8x1, logits"], steps=600),
    **{
        f"resnet32x4 to resnet8x4, {steps} steps": dataclasses.replace(
            PAIRS["resnet32x4 to resnet8x4, features"], steps=steps, layer=None
        )
        for steps in (10, 20, 40)
    },
}


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def arrays(pair):
    rng = np.random.default_rng(0)
    x = rng.random((pair.batch_size * pair.steps, *pair.shape), "float32")
    return x, rng.integers(0, 10, pair.batch_size * pair.steps)


def compiled(model):
    model.compile(keras.optimizers.Adam(1e-3), loss=from_logits(), metrics=["accuracy"])
    return model


def whole_epochs(pair):
    """A function per contender that trains one epoch on arrays."""
    x, y = arrays(pair)
    models = {
        "plain student": pair.build()[1],
        "keras_kd": kd.Distiller(*pair.build(), alpha=0.5, losses=pair.ours()),
        "keras.distillation": keras.distillation.Distiller(*pair.build(), distillation_losses=pair.theirs()),
    }

    def epoch_of(model):
        return lambda: model.fit(x, y, batch_size=pair.batch_size, verbose=0)

    return {name: epoch_of(compiled(model)) for name, model in models.items()}


def contenders(pair):
    """A function per contender that runs the pair's steps."""
    import tensorflow as tf

    x, y = arrays(pair)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can delay the end of an iteration by the iteration's own duration
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(pair.batch_size).cache().prefetch(2).with_options(options)

    def fit(model):
        compiled(model)
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


def contenders_on_jax(pair):
    """The contenders on arrays, without Keras' own Distiller."""
    import jax

    x, y = arrays(pair)

    def fit(model):
        compiled(model)
        return lambda: model.fit(x, y, batch_size=pair.batch_size, shuffle=False, verbose=0)

    teacher, _ = pair.build()
    infer = jax.jit(lambda trained, others, x: teacher.stateless_call(trained, others, x, training=False)[0])

    def run_teacher():
        weights = [[v.value for v in group] for group in (teacher.trainable_variables, teacher.non_trainable_variables)]
        for start in range(0, len(x), pair.batch_size):
            outputs = infer(*weights, x[start : start + pair.batch_size])
        outputs.block_until_ready()

    return {
        "plain student": fit(pair.build()[1]),
        "teacher inference": run_teacher,
        "keras_kd": fit(kd.Distiller(*pair.build(), alpha=0.5, losses=pair.ours())),
    }


def run_on_jax(names, num_rounds, results):
    for name in names:
        pair = PAIRS[name]
        seconds = rounds(contenders_on_jax(pair), num_rounds, warmup=2)
        floor = total(seconds["plain student"], seconds["teacher inference"])
        results[name] = {
            "pair": dataclasses.asdict(pair),
            "rounds": num_rounds,
            "load": os.getloadavg(),
            "seconds": seconds,
            "ratios": {"ours / (plain + teacher)": ratio(seconds["keras_kd"], floor)},
            "median_ms_per_step": {key: 1000 * median(value) / pair.steps for key, value in seconds.items()},
        }
        yield


def main_on_jax(names, num_rounds, write_only):
    """Measures and writes the table of JAX."""
    file = RESULTS / "step_time_jax.json"
    results = json.loads(file.read_text()) if file.exists() else {"pairs": {}}
    if not write_only:
        results["environment"] = environment() | {"backend": "jax"}
        for _ in run_on_jax(names, num_rounds, results["pairs"]):
            save_on_jax(results)
    save_on_jax(results)


def save_on_jax(results):
    loads = {name: f"{row['load'][0]:.1f}" for name, row in results["pairs"].items()}
    rows = table("pair, per step", PAIRS, results["pairs"], "median_ms_per_step", "ms", 1, {"load": loads})
    write("step_time_jax", results, rows, "python benchmarks/step_time.py --backend jax")


def run_steps(names, num_rounds, results):
    for name in names:
        pair = PAIRS[name]
        seconds = rounds(contenders(pair), num_rounds, warmup=2)
        floor = total(seconds["plain student"], seconds["teacher inference"])
        results[name] = {
            "pair": dataclasses.asdict(pair),
            "rounds": num_rounds,
            "seconds": seconds,
            "ratios": {
                "ours / (plain + teacher)": ratio(seconds["keras_kd"], floor),
                "ours / keras.distillation": ratio(seconds["keras_kd"], seconds["keras.distillation"]),
                "keras.distillation / (plain + teacher)": ratio(seconds["keras.distillation"], floor),
            },
            "median_ms_per_step": {key: 1000 * median(value) / pair.steps for key, value in seconds.items()},
        }
        yield


def run_epochs(names, num_rounds, results):
    for name in names:
        if results.get(name, {}).get("rounds") == num_rounds:
            continue  # measured by an interrupted run
        pair = EPOCHS[name]
        seconds = rounds(whole_epochs(pair), num_rounds)
        results[name] = {
            "pair": dataclasses.asdict(pair),
            "rounds": num_rounds,
            "seconds": seconds,
            "ratios": {
                "ours / keras.distillation": ratio(seconds["keras_kd"], seconds["keras.distillation"]),
                "ours / plain student": ratio(seconds["keras_kd"], seconds["plain student"]),
            },
            "median_s_per_epoch": {key: median(value) for key, value in seconds.items()},
        }
        yield


def median(values):
    return sorted(values)[len(values) // 2]


def table(first, order, results, measured, unit, digits, more=None):
    """One row per pair in `order` that was measured, in this run or earlier; `more` has columns of text by pair."""
    more = more or {}
    done = [name for name in order if name in results]
    if not done:
        return ""
    some = results[done[0]]
    rows = [
        [
            name,
            *(f"{value:.{digits}f}" for value in results[name][measured].values()),
            *map(show, results[name]["ratios"].values()),
            *(column[name] for column in more.values()),
        ]
        for name in done
    ]
    return markdown([first, *(f"{key}, {unit}" for key in some[measured]), *some["ratios"], *more], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pairs", nargs="*", choices=[*PAIRS, *EPOCHS])
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--whole-epochs", action="store_true")
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--write-only", action="store_true")
    arguments = parser.parse_args()
    if arguments.backend == "jax":
        main_on_jax(arguments.pairs or PAIRS, arguments.rounds or 9, arguments.write_only)
        return
    if arguments.write_only:
        parser.error("--write-only requires --backend jax")
    before = arguments.scratch or RESULTS / "step_time.json"
    results = json.loads(before.read_text()) if before.exists() else {}
    results = {key: results.get(key, {}) for key in ("pairs", "epochs")}
    if arguments.whole_epochs:
        steps = run_epochs(arguments.pairs or EPOCHS, arguments.rounds or 5, results["epochs"])
    else:
        steps = run_steps(arguments.pairs or PAIRS, arguments.rounds or 9, results["pairs"])
    for _ in steps:  # save each row, so that an interruption does not lose it
        save(results, arguments.scratch)
    save(results, arguments.scratch)


def save(results, scratch):
    tables = [
        table("pair, per step", PAIRS, results["pairs"], "median_ms_per_step", "ms", 1),
        table("`fit(x, y)`, per epoch", EPOCHS, results["epochs"], "median_s_per_epoch", "s", 2),
    ]
    text = "\n\n".join(filter(None, tables))
    if scratch is None:
        write("step_time", results, text)
    else:
        scratch.write_text(json.dumps(results, indent=1))
        print(text)


if __name__ == "__main__":
    main()
