"""LeNet-300-100 and LeNet-5 on MNIST: pruned, clustered and Huffman-coded, alone and under a teacher.

    python benchmarks/deep_compression.py --data-dir DIR [--seeds 3] [--nets lenet_300_100 lenet_5] [--levels 6]
        [--teacher-epochs 15] [--quick]

The experiment of Han, Mao & Dally, "Deep Compression", 2016, tables 1 to 3. Level 0 prunes each layer as far as the
paper does; each further level keeps three quarters of the weights of the one before it. A level is pruned gradually
from the level before it (iteratively, as in the paper), then clustered, and every training has the same steps with and
without the teacher, from the same dense net. The bytes are those of `kd.compression.sizes`: all weights, biases and
tables.

`DIR` (or KERAS_KD_DATA) holds `mnist.npz`. 5,000 training images are held out; they choose the level that is reported
per seed, the last one at which no more of them are wrong than for the dense net. Every finished training is a model
file under `--state` and is not repeated; a net that is not in `--nets` keeps its recorded results. `--quick` tries
everything with a few steps and writes no results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import RESULTS, markdown, write
from hinton_mnist import BATCH_SIZE, Split, count, jittered_batches, load, plain_batches

import keras_kd as kd

HELD_OUT = 5_000
ALPHA = 0.9
TEMPERATURE = 4.0
KEPT_PER_LEVEL = 0.75
LEARNING_RATES = {"dense": 1e-3, "pruned": 1e-3, "clustered": 3e-4}
TEACHERS = {"alone": "labels alone", "distilled": "labels and teacher"}


@dataclasses.dataclass(frozen=True)
class Net:
    """A net of the paper.

    Attributes:
        make: builds it.
        kept: the fraction of weights that the paper keeps, by layer.
        paper: its error before and after in percent, and how many times smaller it became.
        epochs: of the trainings, by kind.
    """

    make: Callable[[], keras.Model]
    kept: dict[str, float]
    paper: tuple[float, float, int]
    epochs: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Settings:
    teacher_epochs: int
    clusters: int
    num_images: int
    is_quick: bool


@dataclasses.dataclass(frozen=True)
class Data:
    """Training images, those held out, test images, and the teacher's logits of the training images."""

    train: Split
    held_out: Split
    test: Split
    logits: np.ndarray | None = None


# The nets. All take rows of 784 numbers.


def lenet_300_100():
    dense = keras.layers.Dense
    return keras.Sequential(
        [keras.Input((784,)), dense(300, "relu", name="fc1"), dense(100, "relu", name="fc2"), dense(10, name="fc3")]
    )


def lenet_5():
    """That of Caffe, as in the paper: 431,080 weights."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, "relu", name="fc1"),
            layers.Dense(10, name="fc2"),
        ]
    )


NETS = {
    "lenet_300_100": Net(
        lenet_300_100,
        {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
        (1.64, 1.58, 40),
        {"dense": 30, "pruned": 30, "clustered": 5},
    ),
    "lenet_5": Net(
        lenet_5,
        {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "fc2": 0.19},
        (0.80, 0.74, 39),
        {"dense": 20, "pruned": 12, "clustered": 3},
    ),
}


def quick(net):
    return dataclasses.replace(net, epochs=dict.fromkeys(net.epochs, 1))


def make_teacher():
    layers = [keras.Input((784,)), keras.layers.Reshape((28, 28, 1))]
    for filters in (32, 64):
        for _ in range(2):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
            layers += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
        layers += [keras.layers.MaxPooling2D(), keras.layers.Dropout(0.25)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(256, "relu"), keras.layers.Dropout(0.5)]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


# The trainings.


def fit(model, batches, kind, epochs, steps, what):
    print(f"== {what}", flush=True)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATES[kind], epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, jit_compile=False)
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=2)


def trained_teacher(state, train, epochs):
    def make():
        keras.utils.set_random_seed(0)
        model = make_teacher()
        fit(model, jittered_batches(train, 0, 0), "dense", epochs, steps_of(train), "teacher")
        return model

    return state.model(f"teacher-{epochs}", make)


def steps_of(split):
    return len(split.images) // BATCH_SIZE


def fit_compressed(model, kind, teacher, data, seed, net, what):
    """Trains a model with the labels alone, or with the logits of the teacher, computed once, as well."""
    logits, trained = None, model
    if teacher == "distilled":
        logits = data.logits
        recorded = keras.Sequential([keras.Input((10,)), keras.layers.Activation("linear")])
        trained = kd.Distiller(
            kd.teachers.FrozenTeacher(recorded, outputs="logits"),
            model,
            alpha=ALPHA,
            temperature=TEMPERATURE,
            teacher_inputs=lambda x: x["teacher_logits"],
            student_inputs=lambda x: x["image"],
        )
    batches = plain_batches(data.train.inputs, data.train.labels, seed, logits)
    fit(trained, batches, kind, net.epochs[kind], steps_of(data.train), what)


class State:
    """The folder of finished models."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def model(self, name: str, make: Callable[[], keras.Model]) -> keras.Model:
        """The model of that name from its file; else `make()`, whose result is saved."""
        path = self.folder / f"{name}.keras"
        if not path.exists():
            model, draft = make(), path.with_name(f"saving-{path.name}")
            model.save(draft)
            draft.replace(path)
        return keras.models.load_model(path, compile=False)


def sparsities(net: Net, level: int) -> dict[str, float]:
    """The sparsity of each layer at a level; 0 before the first."""
    return {path: 0.0 if level < 0 else 1 - kept * KEPT_PER_LEVEL**level for path, kept in net.kept.items()}


def pruned(dense, net, level, teacher, data, seed, what):
    """The net of the level before, pruned to this level over half of the training."""
    steps = net.epochs["pruned"] * steps_of(data.train)
    ramp = max(1, steps // 2)
    before, after = sparsities(net, level - 1), sparsities(net, level)
    rise = {path: kd.schedules.Polynomial(before[path], after[path], steps=ramp) for path in after}
    prune = kd.compression.Pruning(rise, frequency=max(1, ramp // 30))
    model = prune.apply(dense, verbose=False)
    fit_compressed(model, "pruned", teacher, data, seed, net, what)
    return prune.strip(model)


def clustered(sparse, net, clusters, teacher, data, seed, what):
    cluster = kd.compression.Clustering(clusters, start="linear", seed=seed)
    model = cluster.apply(sparse, verbose=False)
    fit_compressed(model, "clustered", teacher, data, seed, net, what)
    return cluster.strip(model)


def measured(model, data):
    size = kd.compression.sizes(model)
    wrong = {
        name: count(model.predict(split.inputs, batch_size=1000, verbose=0), split.labels)["errors"]
        for name, split in (("held_out", data.held_out), ("test", data.test))
    }
    weights = sum(layer.num_weights - layer.num_zeros for layer in size.layers)
    return {"errors": wrong, "nonzero": weights, "gzip_bytes": size.gzip_bytes, "coded_bytes": size.coded_bytes} | {
        "float32_bytes": size.float32_bytes,
        "ratio": size.float32_bytes / size.coded_bytes,
    }


def run(name: str, seed: int, data: Data, settings: Settings, levels: int, state: State) -> dict[str, Any]:
    """The dense net of a seed and, alone and distilled, its levels."""
    net = quick(NETS[name]) if settings.is_quick else NETS[name]
    prefix = "-".join([name, *map(str, net.epochs.values()), str(seed)])

    def make_dense():
        keras.utils.set_random_seed(seed)
        model = net.make()
        what = f"{name}, seed {seed}, dense"
        batches = plain_batches(data.train.inputs, data.train.labels, seed)
        fit(model, batches, "dense", net.epochs["dense"], steps_of(data.train), what)
        return model

    dense = state.model(f"{prefix}-dense", make_dense)
    result = {"net": name, "seed": seed, "dense": measured(dense, data)}
    for teacher in TEACHERS:
        sparse, found = dense, []
        for level in range(levels):
            key = f"{prefix}-{teacher}-{level}"
            arguments = (teacher, data, seed, key)
            sparse = state.model(f"{key}-pruned", lambda a=arguments, s=sparse, i=level: pruned(s, net, i, *a))
            small = state.model(
                f"{key}-clustered", lambda a=arguments, s=sparse: clustered(s, net, settings.clusters, *a)
            )
            found.append(measured(small, data))
            print(key, found[-1], flush=True)
        result[teacher] = found
    return result


# Results.


def chosen(dense: dict, levels: list[dict]) -> int | None:
    """The last level at which no more held-out images are wrong than for the dense net."""
    most = dense["errors"]["held_out"]
    return max((level for level, found in enumerate(levels) if found["errors"]["held_out"] <= most), default=None)


def spread(values: list[float], digits: int = 2) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def percent(found: list[dict]) -> list[float]:
    return [entry["errors"]["test"] / 100 for entry in found]  # of 10,000 images


def table(results: list[dict], levels: int) -> str:
    header = ["net", "trained with", "level", "nonzero weights", "coded kB", "times smaller", "test error in %"]
    rows = []
    for name in dict.fromkeys(result["net"] for result in results):
        of_net = [result for result in results if result["net"] == name]
        before, after, times = NETS[name].paper
        rows.append([name, "labels alone", "dense", *_numbers([result["dense"] for result in of_net])])
        rows.append([name, "paper", "0", "", "", str(times), f"{before:.2f} to {after:.2f}"])
        for teacher, words in TEACHERS.items():
            for level in range(levels):
                rows.append([name, words, str(level), *_numbers([result[teacher][level] for result in of_net])])
            picks = [(result, chosen(result["dense"], result[teacher])) for result in of_net]
            found = [result[teacher][level] for result, level in picks if level is not None]
            label = f"chosen ({len(found)} of {len(of_net)} seeds)"
            rows.append([name, words, label, *(_numbers(found) if found else [""] * 4)])
    return markdown(header, rows)


def _numbers(found: list[dict]) -> list[str]:
    return [
        f"{statistics.mean(entry['nonzero'] for entry in found):,.0f}",
        spread([entry["coded_bytes"] / 1000 for entry in found], 1),
        spread([entry["ratio"] for entry in found], 1),
        spread(percent(found)),
    ]


def notes(settings: Settings, seeds: int) -> str:
    return f"""\
{seeds} seeds; mean (smallest to largest). "Times smaller" is float32 bytes over entropy-coded bytes, all biases and
tables included. Level 0 keeps as many weights of each layer as the paper, each further one three quarters of the one
before. {settings.clusters} clusters, the zero included, in every layer (paper: 64 in LeNet-300-100; 256 in the
convolutions and 32 in the dense layers of LeNet-5). "Chosen" is, for each seed, the last level at which the
{HELD_OUT:,} held-out training images have no more errors than with the dense net; the test images choose nothing. With
the teacher, alpha is {ALPHA:g} and the temperature {TEMPERATURE:g}; it is a convolutional net of 0.9 M weights on
shifted images."""


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_deep_compression")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levels", type=int, default=6)
    parser.add_argument("--clusters", type=int, default=16)
    parser.add_argument("--teacher-epochs", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def main():
    arguments = parse()
    train, test = load(arguments.data_dir)
    num_images = len(train.images)
    if arguments.quick:
        arguments.seeds, arguments.levels, arguments.teacher_epochs = 1, 2, 1
        num_images = HELD_OUT + 2 * BATCH_SIZE
    settings = Settings(arguments.teacher_epochs, arguments.clusters, num_images, arguments.quick)
    state = State(arguments.state / "-".join(map(str, dataclasses.astuple(settings))))
    held_out, train = (Split(train.images[rows], train.labels[rows]) for rows in rows_of(num_images))
    teacher = trained_teacher(state, train, settings.teacher_epochs)
    data = Data(train, held_out, test, teacher.predict(train.inputs, batch_size=1000, verbose=0))
    results = [
        run(name, seed, data, settings, arguments.levels, state)
        for name in arguments.nets
        for seed in range(arguments.seeds)
    ]
    results = recorded_of_others(arguments.nets, settings) + results
    text = f"{table(results, arguments.levels)}\n\n{notes(settings, arguments.seeds)}"
    found = {"settings": dataclasses.asdict(settings), "teacher": measured(teacher, data), "runs": results}
    if arguments.quick:
        print(text)
    else:
        write("deep_compression", found, text)


def recorded_of_others(nets: list[str], settings: Settings) -> list[dict[str, Any]]:
    """The recorded runs of other nets with the same settings."""
    file = RESULTS / "deep_compression.json"
    recorded = json.loads(file.read_text()) if file.exists() else {"runs": [], "settings": None}
    is_same = recorded["settings"] == dataclasses.asdict(settings)
    return [run for run in recorded["runs"] if run["net"] not in nets] if is_same else []


def rows_of(num_images: int) -> tuple[slice, slice]:
    """The rows that are held out, and those that are trained on."""
    return slice(HELD_OUT), slice(HELD_OUT, num_images)


if __name__ == "__main__":
    main()
