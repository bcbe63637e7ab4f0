"""The gain from distillation on the digits: the main recipe over several seeds, measured on the test split.

    python benchmarks/digits_gain.py [--seeds 5] [--folder FOLDER]

Runs `keras-kd run --set seed=N` with the shipped recipe (one teacher per seed), so an interrupted run resumes. The
settings were found on the validation split by `digits_search.py`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from common import markdown, write

import keras_kd as kd


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("digits_gain_runs"))
    arguments = parser.parse_args()
    runs = []
    for seed in range(arguments.seeds):
        recipe = kd.recipes.load(overrides=[f"seed={seed}"], output_dir=arguments.folder / f"seed-{seed}")
        report = kd.recipes.run(recipe)
        runs.append({row.id: row for row in report.rows})
    labels = recipe.few_labels.num_labels
    by_id = {id: [100 * run[id]["accuracy"] for run in runs] for id in runs[0]}
    differences = {
        "distilled - scratch, all labels": gain(by_id, "scratch", "distilled"),
        f"distilled - scratch, {labels} labels": gain(by_id, "few_scratch", "few_distilled"),
        "int8 - teacher": gain(by_id, "teacher", "export_int8"),
    }
    accuracies = {runs[0][id].title: values for id, values in by_id.items()}
    agreement = [100 * run["export_int8"].agreement for run in runs]
    rows = [[name, *spread(values)] for name, values in (accuracies | differences).items()]
    rows.append(["int8 agrees with the Keras student", *spread(agreement)])
    header = ["test accuracy, % (differences: points)", "mean", "standard deviation", *map(str, range(len(runs)))]
    results = {"accuracies": accuracies, "differences": differences, "int8_agreement": agreement}
    write(
        "digits_gain",
        results | {"recipe": recipe.model_dump(mode="json", exclude={"seed", "output_dir"})},
        markdown(header, rows),
    )


def gain(accuracies, before, after):
    return [b - a for a, b in zip(accuracies[before], accuracies[after], strict=True)]


def spread(values):
    return [f"{value:.2f}" for value in (statistics.mean(values), statistics.stdev(values), *values)]


if __name__ == "__main__":
    main()
