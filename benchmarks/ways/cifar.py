"""Parts of `regimes.py` on CIFAR-10: models that learn together, by themselves, in an order, and from an ensemble.

16x16 images. The student is a resnet8 and the teacher a resnet20 that learned from the same images, moved by up to 2
pixels and flipped; every student takes the same number of steps on the same four views of each image, and those of one
seed start from the same weights and see the same order, unless the order is the method.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
from images import accuracy, standardized

import keras_kd as kd
from ways.bench import Bench, Part, Training, compiled, share_right, with_cache

BATCH_SIZE = 100
ALPHA, TEMPERATURE = 0.9, 4.0
VIEWS = 4
NUM_CHECKPOINTS = 4
NUM_MEMBERS = 5
EXITS = ["stage_1", "stage_2"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine a result, apart from the seed."""

    data: str
    num_images: int
    num_test: int
    teacher_epochs: int
    epochs: int


def open_bench(folder: Path, quick: bool, state: Path, record: Path) -> Bench:
    sizes = (400, 200, 4, 4) if quick else (12_500, 10_000, 16, 12)
    settings = Settings("cifar10_25k_packed", *sizes)
    images = standardized(folder, settings.data, settings.num_images)
    images = images._replace(x_test=images.x_test[: settings.num_test], y_test=images.y_test[: settings.num_test])
    return Bench(settings, images, state / "cifar", record)


def build(name: str, bench: Bench) -> keras.Model:
    return kd.models.build(name, input_shape=bench.images.x.shape[1:], num_classes=10)


def fresh(bench: Bench, seed: int) -> keras.Model:
    """A student with its initial weights."""
    keras.utils.set_random_seed(seed)
    return build("resnet8", bench)


def pipeline(bench: Bench, seed: int, curriculum: Any = None) -> Any:
    augment = [kd.data.PadAndCrop(2), kd.data.Flip()]
    source = (bench.images.x, bench.images.y)
    settings = {"batch_size": BATCH_SIZE, "seed": seed, "augment_seed": 0, "views": VIEWS, "curriculum": curriculum}
    return kd.data.Pipeline(source, augment=augment, **settings)


def steps_of(bench: Bench) -> int:
    return bench.settings.epochs * pipeline(bench, 0).steps_per_epoch


# The teacher.


def route_of(bench: Bench) -> kd.callbacks.Snapshots:
    every = bench.settings.teacher_epochs // NUM_CHECKPOINTS
    return kd.callbacks.Snapshots(bench.state / "route", every_epochs=every, last=True)


def trained_teacher(bench: Bench) -> keras.Model:
    """The teacher; its training leaves a route of checkpoints too."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        teacher, batches, epochs = build("resnet20", bench), pipeline(bench, 0), bench.settings.teacher_epochs
        compiled(teacher, epochs * batches.steps_per_epoch)
        bench.fit(teacher, batches, epochs, "teacher", route_of(bench))
        return teacher

    return bench.kept("teacher", make)


def teacher(bench: Bench, seed: int) -> dict[str, float]:
    return {"accuracy": accuracy(trained_teacher(bench), bench.images)}


# One student.


def trained_alone(bench: Bench, seed: int) -> keras.Model:
    def make() -> keras.Model:
        student = compiled(fresh(bench, seed), steps_of(bench))
        bench.fit(student, pipeline(bench, seed), bench.settings.epochs, f"alone-{seed}")
        return student

    return bench.kept(f"alone-{seed}", make)


def alone(bench: Bench, seed: int) -> dict[str, float]:
    return {"accuracy": accuracy(trained_alone(bench, seed), bench.images)}


def distilled(bench: Bench, seed: int, name: str, teacher: Any, batches: Any) -> dict[str, float]:
    student = fresh(bench, seed)
    distiller = kd.Distiller(teacher, student, alpha=ALPHA, temperature=TEMPERATURE)
    compiled(distiller, steps_of(bench))
    bench.fit(distiller, batches, bench.settings.epochs, f"{name}-{seed}")
    return {"accuracy": accuracy(student, bench.images)}


def cached(bench: Bench, seed: int, curriculum: Any = None) -> tuple[Any, Any]:
    return with_cache(pipeline(bench, seed, curriculum), trained_teacher(bench), bench.state / "outputs")


def by_teacher(bench: Bench, seed: int) -> dict[str, float]:
    batches, outputs = cached(bench, seed)
    return distilled(bench, seed, "kd", outputs, batches)


def by_route(bench: Bench, seed: int) -> dict[str, float]:
    trained_teacher(bench)
    every = bench.settings.epochs // NUM_CHECKPOINTS
    route = kd.teachers.Route(route_of(bench).paths, every_epochs=every)
    return distilled(bench, seed, "rco", route, pipeline(bench, seed))


def in_order(bench: Bench, seed: int, order: str) -> dict[str, float]:
    """The images of which the teacher is certain first, or, as the control, images in random order."""
    cached(bench, seed)  # outputs do not depend on the order
    half = steps_of(bench) // 2
    curriculum = kd.curricula.ByTeacherConfidence(
        start=0.3, full_after=half, order=order, balanced=True, progress=False
    )
    batches, outputs = cached(bench, seed, curriculum)
    return distilled(bench, seed, order, outputs, batches)


def by_ensemble(bench: Bench, seed: int) -> dict[str, float]:
    """The students of seeds 0 to 4, trained alone, teach one."""
    members = [trained_alone(bench, member) for member in range(NUM_MEMBERS)]
    ensemble = kd.teachers.Ensemble(members)
    batches, outputs = with_cache(pipeline(bench, seed), ensemble, bench.state / "outputs-ensemble")
    return distilled(bench, seed, "ensemble", outputs, batches)


def ensemble_itself(bench: Bench, seed: int) -> dict[str, float]:
    members = [trained_alone(bench, member) for member in range(NUM_MEMBERS)]
    logits = [member.predict(bench.images.x_test, batch_size=500, verbose=0) for member in members]
    mean = sum(keras.ops.convert_to_numpy(keras.ops.softmax(one)) for one in logits)
    return {"accuracy": share_right(mean, bench.images.y_test)}


# Several at once.


def mutually(bench: Bench, seed: int, name: str, peers: list[keras.Model], method: str) -> dict[str, Any]:
    """Peers that teach each other; the accuracy is their mean."""
    distiller = kd.MutualDistiller(peers, method=method, alpha=0.5)
    compiled(distiller, steps_of(bench), scale=2.0)  # papers: cross-entropy + term, here half of that
    bench.fit(distiller, pipeline(bench, seed), bench.settings.epochs, f"{name}-{seed}")
    logits = distiller.student.predict(bench.images.x_test, batch_size=500, verbose=0)
    found = {output: share_right(value, bench.images.y_test) for output, value in logits.items()}
    of_peers = [found[peer] for peer in distiller.peers]
    combined = {"ensemble": found["ensemble"]} if "ensemble" in found else {}
    return {"accuracy": sum(of_peers) / len(of_peers), "peers": of_peers, **combined}


def dml(bench: Bench, seed: int) -> dict[str, Any]:
    peers = [fresh(bench, seed), build("resnet8", bench)]
    return mutually(bench, seed, "dml", peers, "dml")


def one(bench: Bench, seed: int) -> dict[str, Any]:
    peers = kd.regimes.branches(fresh(bench, seed), at="stage_2", num_branches=3)
    return mutually(bench, seed, "one", peers, "one")


# By itself.


def by_itself(bench: Bench, seed: int, name: str, alpha: float) -> dict[str, float]:
    """A student with exits; without weight for its own teaching, exits learn from the labels alone."""
    student = fresh(bench, seed)
    distiller = kd.SelfDistiller(student, exits=EXITS, alpha=alpha, temperature=3.0, feature_weight=10.0)
    compiled(distiller, steps_of(bench))
    bench.fit(distiller, pipeline(bench, seed), bench.settings.epochs, f"{name}-{seed}")
    logits = distiller.strip(exits=True).predict(bench.images.x_test, batch_size=500, verbose=0)
    found = {output: share_right(value, bench.images.y_test) for output, value in logits.items()}
    return {"accuracy": found.pop("output"), **found}


# The tables.

ALONE = Training("alone", alone, "68.99")
KD = Training("from the teacher", by_teacher)
TEACHER = Training("the teacher, resnet20", teacher, once=True)
ONE_MEASURE = {"test accuracy %": "accuracy"}

MUTUAL = Part(
    "CIFAR-10, learning together: a resnet8",
    open_bench,
    {
        "teacher": TEACHER,
        "alone": ALONE,
        "kd": KD,
        "dml": Training("with a second one (DML)", dml, "71.19"),
        "one": Training("as three branches (ONE)", one),
    },
    ONE_MEASURE,
    (("kd", "alone"), ("dml", "alone"), ("one", "alone"), ("dml", "kd"), ("one", "kd")),
    "The accuracy is the mean of the peers. Published: ResNet-32 on CIFAR-100 (Zhang et al., 2018).",
)
ORDERED = Part(
    "CIFAR-10, in an order: a resnet8 from the teacher",
    open_bench,
    {
        "kd": dataclasses.replace(KD, words="from the trained teacher"),
        "rco": Training("from four of its checkpoints (RCO)", by_route, "+2.1 points"),
        "easy_first": Training("certain images first", lambda bench, seed: in_order(bench, seed, "easy_first")),
        "random": Training("as many images, in random order", lambda bench, seed: in_order(bench, seed, "random")),
    },
    ONE_MEASURE,
    (("rco", "kd"), ("easy_first", "kd"), ("easy_first", "random")),
    "Published: on CIFAR-100 (Jin et al., 2019), where the student is trained at each checkpoint until it converges.",
)
SELF = Part(
    "CIFAR-10, by itself: a resnet8",
    open_bench,
    {
        "alone": dataclasses.replace(ALONE, words="without exits", published=""),
        "labels_at_exits": Training(
            "exits learn from labels", lambda bench, seed: by_itself(bench, seed, "labels_at_exits", 0.0)
        ),
        "exits": Training(
            "exits learn from labels and from the output (be your own teacher)",
            lambda bench, seed: by_itself(bench, seed, "exits", 0.1),
            "67.85 / 74.57 / 78.23 / 78.64",
        ),
    },
    {"exit 1 %": "exit_1", "exit 2 %": "exit_2", "output %": "accuracy"},
    (("exits", "alone"), ("exits", "labels_at_exits")),
    "Published: the four exits of a ResNet18 on CIFAR-100 (Zhang et al., 2019); an independent run found "
    "78.01 without exits and 79.04 with them.",
)
ENSEMBLE = Part(
    "CIFAR-10, an ensemble distilled back: a resnet8",
    open_bench,
    {
        "alone": dataclasses.replace(ALONE, published=""),
        "members": Training("five of them, their mean probabilities", ensemble_itself, once=True),
        "ensemble": Training("from the five", by_ensemble),
    },
    ONE_MEASURE,
    (("ensemble", "alone"),),
)
