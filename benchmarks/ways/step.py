"""The part of `regimes.py` on cost: what a step of a regime takes, over what its parts take in a step of Keras.

A resnet8 on 16x16 images; all contenders run in turn on the same batches without XLA, and ratios are computed per
round. Exits count on both sides: the parts are the model with exits, trained on labels by Keras. A teacher by moving
average needs one more forward pass, N peers are N plain steps, and an attack of k steps with the training on its result
is k + 1 plain steps.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras
from common import markdown, ratio, rounds, show, total
from compression_step import batches
from losses import from_logits

import keras_kd as kd
from ways.bench import Bench, Part, Training

EXITS = ["stage_1", "stage_2"]
ATTACK_STEPS = 7
RATIOS = {  # ours over the sum of the parts, each by the number of times that it counts, and the target
    "self, exits / Keras with exits": ("exits", {"Keras with exits": 1}, 1.10),
    "self, moving average / (plain + inference)": ("moving average", {"plain": 1, "inference": 1}, 1.10),
    "self, label smoothing / plain": ("label smoothing", {"plain": 1}, 1.10),
    "mutual, 2 peers / 2 plain": ("2 peers", {"plain": 2}, 1.05),
    "mutual, 3 peers / 3 plain": ("3 peers", {"plain": 3}, 1.05),
    f"PGD-{ATTACK_STEPS} / {ATTACK_STEPS + 1} plain": ("PGD", {"plain": ATTACK_STEPS + 1}, 1.10),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a measurement."""

    part: str
    model: str
    shape: list[int]  # as it is read from the record
    batch_size: int
    steps: int
    rounds: int


def open_bench(folder: Path, quick: bool, state: Path, record: Path) -> Bench:
    sizes = (20, 2, 2) if quick else (100, 10, 9)
    return Bench(Settings("steps", "resnet8", [16, 16, 3], *sizes), None, state / "steps", record)


def contenders(settings: Settings) -> dict[str, Any]:
    """A function per contender that runs the steps."""
    data = batches(settings)

    def build() -> keras.Model:
        return kd.models.build(settings.model, input_shape=tuple(settings.shape), num_classes=10)

    def fitting(model: keras.Model, data: Any = data, loss: Any = None) -> Any:
        model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss or from_logits(), jit_compile=False)
        return lambda: model.fit(data, shuffle=False, verbose=0)

    keras.utils.set_random_seed(0)
    with_exits = kd.regimes.with_exits(build(), EXITS)
    names = list(with_exits.output)
    at_exits = data.map(lambda x, y: (x, dict.fromkeys(names, y)))
    made = {"plain": fitting(build()), "inference": inferring(build(), data)}
    made["Keras with exits"] = fitting(with_exits, at_exits, {name: from_logits() for name in names})
    made["exits"] = fitting(kd.SelfDistiller(build(), exits=EXITS))
    made["moving average"] = fitting(kd.SelfDistiller(build(), teacher="ema", decay=0.999))
    made["label smoothing"] = fitting(kd.SelfDistiller(build(), teacher="label_smoothing", correct=0.99))
    for number in (2, 3):
        made[f"{number} peers"] = fitting(kd.MutualDistiller([build() for _ in range(number)]))
    made["PGD"] = fitting(kd.AdversarialTraining(build(), kd.adversaries.PGD(8 / 255, steps=ATTACK_STEPS)))
    return made


def inferring(model: keras.Model, data: Any) -> Any:
    import tensorflow as tf

    infer = tf.function(lambda x: model(x, training=False))

    def run() -> None:
        for x, _ in data:
            infer(x)

    return run


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    seconds = rounds(contenders(bench.settings), bench.settings.rounds, warmup=2)
    found = {}
    for name, (ours, parts, _) in RATIOS.items():
        found[name] = ratio(
            seconds[ours], total(*(seconds[part] for part, times in parts.items() for _ in range(times)))
        )
    return {"ratios": found, "seconds": seconds, "load": os.getloadavg()[0]}


STEPS = Part("a step", open_bench, {"steps": Training("a step of each regime, in turn", measure, once=True)}, {})


def table_of_steps(rows: list[dict]) -> str:
    """A line for each ratio, from the last measurement."""
    if not rows:
        return ""
    lines = [[name, f"{target:.2f}", show(rows[-1]["ratios"][name])] for name, (*_, target) in RATIOS.items()]
    median = sorted(rows[-1]["seconds"]["plain"])[len(rows[-1]["seconds"]["plain"]) // 2]
    note = f"A plain step: {1000 * median / rows[-1]['settings']['steps']:.1f} ms; load average {rows[-1]['load']:.1f}."
    return f"{markdown(['time of a step', 'target', 'ratio'], lines)}\n\n{note}"
