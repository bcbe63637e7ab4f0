"""The ways to teach, against training alone and against a fixed teacher: accuracy, and the cost of a step.

    python benchmarks/regimes.py --data-dir DIR [--only PART ...] [--seeds 0 1 2] [--quick]
        [--state DIR] [--record FILE.jsonl]

`DIR` (or KERAS_KD_DATA) holds `mnist.npz`, `fashion_mnist.npz`, `cifar10_25k_packed.npz` and their reader `load.py`.
The parts, in the order in which they run:

- `steps`: the time of a step over that of its parts, `ways/step.py`;
- `data_free`: DAFL and DeepInversion, from a LeNet-5 on MNIST, `ways/data_free.py`;
- `transfer`: to five other classes by 50 labels, CIFAR-10, `ways/transfer.py`;
- `robust`: ARD and RSLAD against TRADES, Fashion-MNIST, `ways/robust.py`;
- `mutual`, `ordered`, `self`, `ensemble`: DML and ONE; RCO and a curriculum; be your own teacher; five students
  distilled back into one; CIFAR-10, `ways/cifar.py`.

Teachers and students that see different things are in `cross_modal.py`, few labels in `semi_supervised.py`.

Sizes are such that one core of a slow processor finishes three seeds in about six hours: images of half resolution,
a part of the training images, small networks and few epochs, as each part says. The results compare the ways with each
other; they are not those of the papers, whose networks and trainings are larger.

All parts run for the first seed before the second. Every finished training is a line of the record,
`results/regimes.jsonl` by default, and is not repeated; most take 1 to 10 minutes, DAFL about 20, and a killed one
resumes from its last saved epoch. `--only table` trains nothing and writes the tables from the record. With other parts
alone, the tables are printed and nothing is written to the docs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from common import RESULTS, write
from ways.bench import Bench, Part, table
from ways.cifar import ENSEMBLE, MUTUAL, ORDERED, SELF
from ways.data_free import DATA_FREE
from ways.robust import ROBUST
from ways.step import STEPS, table_of_steps
from ways.transfer import TRANSFER

PARTS = {
    "steps": STEPS,
    "data_free": DATA_FREE,
    "transfer": TRANSFER,
    "robust": ROBUST,
    "mutual": MUTUAL,
    "ordered": ORDERED,
    "self": SELF,
    "ensemble": ENSEMBLE,
}
TABLE = "table"


def opened(names: list[str], arguments: argparse.Namespace, record: Path) -> dict[str, Bench]:
    """The bench of each part; parts on the same data share one, with its images and models."""
    folder, state = Path(arguments.data_dir), arguments.state / ("quick" if arguments.quick else "full")
    benches = {open_bench: None for open_bench in (PARTS[name].open for name in names)}
    for open_bench in benches:
        benches[open_bench] = open_bench(folder, arguments.quick, state, record)
    return {name: benches[PARTS[name].open] for name in names}


def train(part: Part, bench: Bench, seed: int, first: int) -> None:
    for name, training in part.trainings.items():
        if not training.once or seed == first:
            bench.run(name, training, 0 if training.once else seed)


def tables(benches: dict[str, Bench], seeds: list[int]) -> tuple[dict, str]:
    rows = {name: bench.rows() for name, bench in benches.items()}
    made = [
        table_of_steps(rows[name]) if name == "steps" else table(PARTS[name], rows[name], seeds) for name in benches
    ]
    of_bench = {id(bench): rows[name] for name, bench in benches.items()}
    return {"rows": [row for part in of_bench.values() for row in part]}, "\n\n".join(filter(None, made))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("KERAS_KD_DATA"))
    parser.add_argument("--only", nargs="*", choices=[*PARTS, TABLE], help="parts, all by default, or the tables alone")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / "keras_kd_regimes")
    parser.add_argument("--record", type=Path, default=RESULTS / "regimes.jsonl")
    parser.add_argument("--quick", action="store_true", help="a few steps each; nothing is written to the docs")
    arguments = parser.parse_args()
    if not arguments.data_dir or not (Path(arguments.data_dir) / "load.py").exists():
        sys.exit("No data sets found: name their folder with --data-dir or KERAS_KD_DATA. Nothing was run.")
    only = arguments.only or list(PARTS)
    names = [name for name in PARTS if name in only] or list(PARTS)
    record = arguments.state / "quick.jsonl" if arguments.quick else arguments.record
    record.parent.mkdir(parents=True, exist_ok=True)
    benches = opened(names, arguments, record)
    for seed in arguments.seeds if only != [TABLE] else []:
        for name in names:
            train(PARTS[name], benches[name], seed, arguments.seeds[0])
    results, text = tables(benches, arguments.seeds)
    whole = names == list(PARTS) and not arguments.quick
    write("regimes", results, text, "python benchmarks/regimes.py --data-dir DIR") if whole else print(text)


if __name__ == "__main__":
    main()
