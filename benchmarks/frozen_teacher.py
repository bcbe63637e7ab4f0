"""The speedup of a teacher's faster copy, `FrozenTeacher(dtype=...)`, and how far its logits move.

    python benchmarks/frozen_teacher.py [--rounds 7]

Time: batches of 64 on one thread without XLA, alternating with the unmodified model, once with all instructions of this
processor and once with oneDNN restricted to instructions without bfloat16 (`ONEDNN_MAX_CPU_ISA=AVX512_CORE`), each in
its own process. Logits: of teachers trained on the digits, on the test images. Takes about 5 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf
from common import markdown, ratio, rounds, show, write

import keras_kd as kd
from keras_kd.teachers import Batch, FrozenTeacher

BATCH_SIZE = 64
TIMED = {"resnet8x4": (32, 32, 3), "resnet32x4": (32, 32, 3), "wrn_16_2": (16, 16, 3)}
TRAINED = ("digits_teacher", "resnet8", "resnet20", "resnet8x4", "wrn_16_2", "vgg8")
SEEDS = (0, 1)
EPOCHS = 4
COPIES = ("float32", "bfloat16")


def seconds(name: str, num_rounds: int) -> dict[str, list[float]]:
    """Seconds for 4 batches per kind of teacher and round."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shape = TIMED[name]
    keras.utils.set_random_seed(0)
    model = kd.models.build(name, input_shape=shape, num_classes=100)
    x = tf.constant(np.random.default_rng(0).normal(size=(BATCH_SIZE, *shape)).astype("float32"))

    def contender(dtype):
        teacher = FrozenTeacher(model, dtype=dtype)
        run = tf.function(lambda x: teacher(Batch(x)).outputs, jit_compile=False)
        return lambda: [run(x)["output"].numpy() for _ in range(4)]

    return rounds({str(dtype): contender(dtype) for dtype in (None, *COPIES)}, num_rounds)


def timed(name: str, num_rounds: int, isa: str | None) -> dict[str, dict[str, float]]:
    """The time of each copy relative to the model's, measured in a separate process."""
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    command = [sys.executable, __file__, "--rounds", str(num_rounds), "--time", name]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(run.stdout.splitlines()[-1])
    return {copy: ratio(found[copy], found["None"]) for copy in COPIES}


def moved(name: str, seed: int) -> dict[str, dict[str, float]]:
    """The distance of each copy's logits from a trained teacher's, in standard deviations of the teacher's."""
    source = kd.data.open_source("digits")
    (x, y), (x_test, _) = source.train.arrays(), source.test.arrays()
    keras.utils.set_random_seed(seed)
    model = kd.models.build(name, input_shape=(8, 8, 1), num_classes=10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss=loss, jit_compile=False)
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    expected, *logits = (
        np.asarray(FrozenTeacher(model, dtype=dtype)(Batch(tf.constant(x_test))).outputs["output"])
        for dtype in (None, *COPIES)
    )
    return {
        copy: {
            "largest": float(np.abs(z - expected).max() / expected.std()),
            "root mean square": float(np.sqrt(np.mean((z - expected) ** 2)) / expected.std()),
            "same class": float(np.mean(z.argmax(-1) == expected.argmax(-1))),
        }
        for copy, z in zip(COPIES, logits, strict=True)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--time", choices=list(TIMED), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        print(json.dumps(seconds(arguments.time, arguments.rounds)))
        return
    kinds = {"as it is": None, "without bfloat16 instructions": "AVX512_CORE"}
    times = {name: {kind: timed(name, arguments.rounds, isa) for kind, isa in kinds.items()} for name in TIMED}
    logits = {f"{name}, seed {seed}": moved(name, seed) for name in TRAINED for seed in SEEDS}
    rows = [
        [f"{name}, {'x'.join(map(str, TIMED[name][:2]))}", copy, *(show(times[name][kind][copy]) for kind in kinds)]
        for name in TIMED
        for copy in COPIES
    ]
    table = markdown(["time / the model's own", "copy", *(f"processor {kind}" for kind in kinds)], rows)
    worst = {
        copy: [
            max(of[copy]["largest"] for of in logits.values()),
            max(of[copy]["root mean square"] for of in logits.values()),
            min(of[copy]["same class"] for of in logits.values()),
        ]
        for copy in COPIES
    }
    rows = [[copy, f"{worst[copy][0]:.2g}", f"{worst[copy][1]:.2g}", f"{100 * worst[copy][2]:.1f}"] for copy in COPIES]
    header = ["logits, standard deviations", "largest difference", "root mean square", "same class, %"]
    results = {"time": times, "logits": logits}
    note = f"The worst of {len(logits)} teachers trained on the digits."
    write("frozen_teacher", results, f"{table}\n\n{markdown(header, rows)}\n\n{note}")


if __name__ == "__main__":
    main()
