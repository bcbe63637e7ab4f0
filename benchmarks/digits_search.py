"""Searches the settings of the digits recipe on its VALIDATION split; the test split is never opened.

    python benchmarks/digits_search.py [--seeds 3]

Every training is recorded when it finishes, so an interrupted search resumes. Prints the mean validation accuracy per
setting.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics

import keras
from common import RESULTS, markdown, write

import keras_kd as kd
from keras_kd import data

LOG = RESULTS / "digits_search.jsonl"
LABELS = 100


def grid():
    """Yields (labels, epochs, alpha, temperature); alpha None means the student alone, a pair a cosine decay."""
    for labels, epochs in itertools.product(("all", LABELS), (60, 120)):
        yield labels, epochs, None, None
        for alpha, temperature in itertools.product((0.5, 0.9, 1.0, (0.9, 0.1)), (1.0, 2.0, 4.0, 8.0)):
            if epochs == 60 or (alpha, temperature) in ((0.5, 4.0), (0.9, 4.0)):
                yield labels, epochs, alpha, temperature


def train(source, teacher, labels, epochs, alpha, temperature, seed, learning_rate=5e-3):
    """The validation accuracy after the last epoch."""
    split = source.train
    if labels != "all":
        labeled, partly = data.few_labels(split, labels, seed)
        repeated = labeled.subset(sorted(i % labels for i in range(split.num_examples)), name="labeled, repeated")
        split = repeated if alpha is None else partly
    keras.utils.set_random_seed(seed)
    model = student = kd.models.build("digits_student", input_shape=source.input_shape, num_classes=10)
    keras.utils.set_random_seed(seed)
    steps = data.steps_per_epoch(split, 64)
    if alpha is not None:
        value = kd.schedules.Cosine(*alpha, steps=epochs * steps) if isinstance(alpha, (tuple, list)) else alpha
        model = kd.Distiller(teacher, student, alpha=value, temperature=temperature)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    model.fit(data.Pipeline(split, batch_size=64, seed=seed), epochs=epochs, verbose=0)
    batches = data.evaluation_batches(source.validation, 256)
    return model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]


def load_teacher(source):
    """The recipe's teacher, trained once."""
    path = RESULTS / "digits_search_teacher.keras"
    if not path.exists():
        recipe = kd.recipes.load()
        settings = recipe.teacher
        keras.utils.set_random_seed(0)
        teacher = kd.models.build(settings.model, input_shape=source.input_shape, num_classes=10)
        steps = data.steps_per_epoch(source.train, settings.batch_size)
        rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        teacher.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        batches = data.Pipeline(source.train, batch_size=settings.batch_size)
        teacher.fit(batches, epochs=settings.epochs, verbose=0)
        print("teacher:", teacher.evaluate(data.evaluation_batches(source.validation, 256), verbose=0), flush=True)
        teacher.save(path)
    return keras.models.load_model(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    RESULTS.mkdir(exist_ok=True)
    done = {}
    if LOG.exists():
        done = {json.dumps(row[:-1]): row[-1] for row in map(json.loads, LOG.read_text().splitlines())}
    source = data.open_source("digits")
    teacher = load_teacher(source)
    for seed, setting in itertools.product(range(seeds), grid()):
        key = json.dumps([*setting, seed])
        if key not in done:
            done[key] = train(source, teacher, *setting, seed)
            with LOG.open("a") as file:
                file.write(json.dumps([*json.loads(key), done[key]]) + "\n")
            print(key, f"{done[key]:.4f}", flush=True)
    summarize(done, seeds)


def summarize(done, seeds):
    rows = []
    for setting in grid():
        values = [100 * done[json.dumps([*setting, seed])] for seed in range(seeds)]
        rows.append((*setting, statistics.mean(values), statistics.stdev(values)))
    rows.sort(key=lambda row: (str(row[0]), -row[4]))
    header = ["labels", "epochs", "alpha", "temperature", "validation accuracy, mean %", "standard deviation"]
    table = markdown(header, [[*row[:4], f"{row[4]:.2f}", f"{row[5]:.2f}"] for row in rows])
    write("digits_search", {"settings": {"seeds": seeds}, "rows": rows}, table)


if __name__ == "__main__":
    main()
