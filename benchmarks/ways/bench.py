"""Shared by the parts of `regimes.py`: what a part is, its kept models and finished trainings, and its table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import markdown
from images import Images, save
from losses import from_logits, optimizer
from semi_supervised import Log, fit, recorded, spread

import keras_kd as kd


@dataclasses.dataclass(frozen=True)
class Training:
    """A line of a table.

    Attributes:
        words: what is trained.
        train: trains it in a bench from a seed, and returns what was measured.
        published: what a paper reports.
        once: whether it is trained once and not for each seed, as a teacher is.
    """

    words: str
    train: Callable[[Bench, int], dict[str, Any]]
    published: str = ""
    once: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """Trainings that are compared with each other.

    Attributes:
        title: the head of the first column.
        open: makes the bench from the folder of the data, whether it is a quick run, the state and the record.
        trainings: by name, in the order of the table.
        measures: the columns, as the name of a measured share of 0 to 1 by its head.
        gains: pairs of trainings, whose difference in the last measure is reported seed by seed.
        note: what the table leaves out.
    """

    title: str
    open: Callable[[Path, bool, Path, Path], Bench]
    trainings: dict[str, Training]
    measures: dict[str, str]
    gains: tuple[tuple[str, str], ...] = ()
    note: str = ""


class Bench:
    """The trainings on one data set: where their files are, and what has been finished.

    Args:
        settings: a frozen dataclass that determines the results, apart from the seed.
        images: to train and to test on.
        state: a folder.
        record: the file of the finished trainings.
    """

    def __init__(self, settings: Any, images: Images, state: Path, record: Path):
        self.settings, self.images, self.state, self.record = settings, images, state, record
        state.mkdir(parents=True, exist_ok=True)

    def fit(self, model: keras.Model, batches: Any, epochs: int, name: str, *callbacks: Any) -> None:
        """Trains a compiled model, from its last saved epoch on."""
        fit(model, batches, epochs, self.folder(name), Log(name, every=max(1, epochs // 4)), *callbacks)

    def kept(self, name: str, make: Callable[[], keras.Model]) -> keras.Model:
        """A trained model from its file, or made and saved."""
        path = self.state / f"{name}.keras"
        if not path.exists():
            save(make(), path)
            self.clear(name)
        return keras.models.load_model(path, compile=False)

    def folder(self, name: str) -> Path:
        return self.state / f"{name}.state"

    def clear(self, name: str) -> None:
        kd.callbacks.Resume(self.folder(name)).clear()

    def rows(self) -> list[dict]:
        return recorded(self.record, self.settings)

    def run(self, name: str, training: Training, seed: int) -> None:
        """Trains and records a line, unless it has been recorded."""
        if any((row["training"], row["seed"]) == (name, seed) for row in self.rows()):
            return
        result = training.train(self, seed)
        row = {"training": name, "seed": seed, **result, "settings": dataclasses.asdict(self.settings)}
        with self.record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.clear(f"{name}-{seed}")
        print(f"{name}, seed {seed}: {result}", flush=True)


def compiled(model: keras.Model, steps: int, *, scale: float = 1.0) -> keras.Model:
    model.compile(optimizer=optimizer(steps, scale), loss=from_logits(), jit_compile=False)
    return model


def with_cache(batches: Any, teacher: Any, folder: Path) -> tuple[Any, Any]:
    """The batches with the stored outputs of a teacher for all their views, and the teacher that reads these."""
    views = batches.views or 1
    teacher = kd.teachers.CachedTeacher.build(teacher, batches, folder, views=views, progress=False)
    return batches.with_teacher(teacher), teacher


def share_right(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(-1) == labels).mean())


def table(part: Part, rows: list[dict], seeds: list[int]) -> str:
    """A line for each training: mean and standard deviation of each measure, and the last measure by seed."""
    measures = list(part.measures.values())
    lines = []
    for name, training in part.trainings.items():
        found = [percent(rows, name, measure, [0] if training.once else seeds) for measure in measures]
        by_seed = ", ".join(f"{value:.2f}" for value in found[-1].values())
        lines.append([training.words, training.published, *(spread([*one.values()]) for one in found), by_seed])
    head = [part.title, "published", *part.measures, f"{[*part.measures][-1]}, by seed"]
    gains = [gain(part, rows, pair, seeds) for pair in part.gains]
    return "\n\n".join(filter(None, [markdown(head, lines), "\n".join(filter(None, gains)), part.note]))


def percent(rows: list[dict], name: str, measure: str, seeds: list[int]) -> dict[int, float]:
    """What was measured of a training, in percent by seed, in the order of the seeds."""
    found = {row["seed"]: row[measure] for row in rows if row["training"] == name and measure in row}
    return {seed: 100 * found[seed] for seed in seeds if seed in found}


def gain(part: Part, rows: list[dict], pair: tuple[str, str], seeds: list[int]) -> str:
    """The difference of two trainings in the last measure, seed by seed; nothing if none was measured."""
    measure = [*part.measures.values()][-1]
    ours, other = (percent(rows, name, measure, [0] if part.trainings[name].once else seeds) for name in pair)
    differences = [ours[seed] - other[seed] for seed in ours if seed in other]
    words = [part.trainings[name].words for name in pair]
    return f"- {words[0]}, over {words[1]}: {spread(differences)} points." if differences else ""
