"""The cost of a training step while a model is compressed: plain, pruning, clustering, quantization-aware, TFMOT.

    python benchmarks/compression_step.py [--rounds 9] [--nets NAME ...] [--scratch FILE.json]

Each contender trains the same net on the same batches with `fit`, in turn; ratios to the plain step are computed per
round. The masks are computed every 100 steps, as by default in both packages. TFMOT runs in a child process on
tf_keras, and is compared with a plain tf_keras step of the same process: its ratio says what pruning adds there.
`--scratch` writes the results to a separate file, and leaves the results and the docs unchanged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from common import RESULTS, markdown, ratio, rounds, show, write

CHILD = "--tfmot"
FREQUENCY = 100
TARGETS = {"pruning": 1.05, "quantization-aware": 1.6}


@dataclasses.dataclass(frozen=True)
class Net:
    """A convolutional net: its filters per layer, its images, and the number of timed steps."""

    filters: tuple[int, ...]
    units: int
    shape: tuple[int, int, int]
    batch_size: int
    steps: int

    def build(self, keras):
        """The net in Keras 3 or in tf_keras, which share these layers."""
        layers = keras.layers
        model = keras.Sequential([layers.InputLayer(self.shape)])
        for filters in self.filters:
            model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
            model.add(layers.BatchNormalization())
            model.add(layers.ReLU())
        model.add(layers.Flatten())
        model.add(layers.Dense(self.units, activation="relu"))
        model.add(layers.Dense(10))
        return model


NETS = {
    "small, 32x32x3, batch 64": Net((16, 32, 64), 64, (32, 32, 3), 64, 100),
    "wide, 32x32x3, batch 64": Net((64, 128, 256), 512, (32, 32, 3), 64, 20),
    "dense, batch 32": Net((), 2048, (16, 16, 1), 32, 100),
}


def batches(net):
    import numpy as np
    import tensorflow as tf

    rng, count = np.random.default_rng(0), net.batch_size * net.steps
    x, y = rng.random((count, *net.shape), "float32"), rng.integers(0, 10, count)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can delay the end of an iteration by the iteration's own duration
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(net.batch_size).cache().prefetch(2).with_options(options)


def fitting(model, data, keras, callbacks=()):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss=loss)
    return lambda: model.fit(data, shuffle=False, verbose=0, callbacks=list(callbacks))


def contenders(net):
    """A function per contender that runs the net's steps."""
    import keras

    import keras_kd as kd

    data, compression = batches(net), kd.compression
    transforms = {
        "pruning": compression.Pruning(0.8, frequency=FREQUENCY),
        "pruning 2:4": compression.Pruning(pattern="2:4", frequency=FREQUENCY),
        "clustering": compression.Clustering(16),
        "quantization-aware": compression.QuantizationAware(),
    }
    made = {name: transform.apply(net.build(keras), verbose=False) for name, transform in transforms.items()}
    return {name: fitting(model, data, keras) for name, model in {"plain": net.build(keras), **made}.items()}


def contenders_of_tfmot(net):
    """Plain tf_keras models and those that TFMOT compresses, in a process of their own."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    data, sparsity = batches(net), tfmot.sparsity.keras
    schedule = sparsity.ConstantSparsity(0.8, begin_step=0, frequency=FREQUENCY)
    pruned = sparsity.prune_low_magnitude(net.build(tf_keras), pruning_schedule=schedule)
    clustering = tfmot.clustering.keras
    start = {"cluster_centroids_init": clustering.CentroidInitialization.KMEANS_PLUS_PLUS}
    clustered = clustering.cluster_weights(net.build(tf_keras), number_of_clusters=16, **start)
    quantized = tfmot.quantization.keras.quantize_model(net.build(tf_keras))
    return {
        "plain": fitting(net.build(tf_keras), data, tf_keras),
        "pruning": fitting(pruned, data, tf_keras, [sparsity.UpdatePruningStep()]),
        "clustering": fitting(clustered, data, tf_keras),
        "quantization-aware": fitting(quantized, data, tf_keras),
    }


def measured(name, num_rounds):
    """The seconds of all contenders on a net, those of TFMOT from a child process."""
    seconds = rounds(contenders(NETS[name]), num_rounds, warmup=2)
    command = [sys.executable, __file__, CHILD, name, "--rounds", str(num_rounds)]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    child = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    theirs = json.loads(child.stdout.splitlines()[-1])
    plain = seconds["plain"]
    ratios = {other: ratio(values, plain) for other, values in seconds.items() if other != "plain"}
    of_tfmot = {f"TFMOT {other}": values for other, values in theirs.items() if other != "plain"}
    ratios |= {f"{other} (of tf_keras)": ratio(values, theirs["plain"]) for other, values in of_tfmot.items()}
    return {
        "net": dataclasses.asdict(NETS[name]),
        "rounds": num_rounds,
        "load": os.getloadavg(),
        "seconds": {**seconds, "tf_keras": theirs["plain"], **of_tfmot},
        "ratios": ratios,
        "median_ms_per_step": 1000 * sorted(plain)[len(plain) // 2] / NETS[name].steps,
    }


def table(results):
    done = [name for name in NETS if name in results]
    names = list(dict.fromkeys(key for name in done for key in results[name]["ratios"]))
    head = [
        "net",
        "plain step, ms",
        *(f"{key}{f' (target {TARGETS[key]})' if key in TARGETS else ''}" for key in names),
    ]
    rows = [
        [
            name,
            f"{results[name]['median_ms_per_step']:.1f}",
            *(show(results[name]["ratios"][key]) if key in results[name]["ratios"] else "–" for key in names),
        ]
        for name in done
    ]
    return markdown(head, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nets", nargs="*", choices=list(NETS))
    parser.add_argument("--scratch", type=Path)
    parser.add_argument(CHILD, dest="tfmot", choices=list(NETS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tfmot:
        print(json.dumps(rounds(contenders_of_tfmot(NETS[arguments.tfmot]), arguments.rounds, warmup=2)))
        return
    file = arguments.scratch or RESULTS / "compression_step.json"
    results = json.loads(file.read_text()) if file.exists() else {"nets": {}}
    results.pop("environment", None)
    for name in arguments.nets or NETS:
        results["nets"][name] = measured(name, arguments.rounds)
        save(results, arguments.scratch)  # each row, so that an interruption does not lose it


def save(results, scratch):
    text = table(results["nets"])
    if scratch is None:
        write("compression_step", results, text)
    else:
        scratch.write_text(json.dumps(results, indent=1))
        print(text)


if __name__ == "__main__":
    main()
