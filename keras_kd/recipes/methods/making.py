"""Makes the distillers of these methods from the settings of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.recipes.making import scheduled
from keras_kd.recipes.reading.methods import DataFree, Inversion, Mutual, SelfTaught
from keras_kd.regimes import DataFreeDistiller, MutualDistiller, SelfDistiller, branches
from keras_kd.synthesis import DAFL, ZSKT, DeepInversion
from keras_kd.synthesis.generator import LATENT_SIZE, generator

PEER = "peer"


def make_self_distiller(student: keras.Model, settings: SelfTaught, total_steps: int) -> SelfDistiller:
    """The distiller of a student that teaches itself in `total_steps` steps."""
    return SelfDistiller(student, **settings.settings, **_hyperparameters(settings, total_steps))


def make_peers(student: keras.Model, others: Sequence[keras.Model], settings: Mutual) -> dict[str, keras.Model]:
    """The peers by the names `peer_1`, `peer_2` and so on, the same in every process; the student is the first.

    Args:
        student: the student, built.
        others: the models beside it; none for `one`, whose peers are branches of the student.
    """
    if settings.mode == "one":
        made = branches(_named(student, PEER), at=settings.at, num_branches=settings.num_peers)
    else:
        made = [_named(model, f"{PEER}_{number}") for number, model in enumerate([student, *others], 1)]
    return {peer.name: peer for peer in made}


def make_mutual_distiller(peers: dict[str, keras.Model], settings: Mutual, total_steps: int) -> MutualDistiller:
    """The distiller of peers that learn together in `total_steps` steps."""
    rule = {"rule": settings.rule} if settings.rule else {}
    return MutualDistiller(
        list(peers.values()), method=settings.mode, **rule, **_hyperparameters(settings, total_steps)
    )


def make_data_free_distiller(
    teacher: Any,
    student: keras.Model,
    settings: DataFree,
    total_steps: int,
    *,
    value_range: tuple[float, float],
    seed: int,
) -> DataFreeDistiller:
    """The distiller of a student and a generator, whose images are in `value_range`."""
    temperature = {} if settings.temperature is None else {"temperature": scheduled(settings.temperature, total_steps)}
    made = generator(tuple(student.input_shape[1:]), latent_size=LATENT_SIZE, value_range=value_range)
    synthesizer = _GENERATORS[settings.synthesizer.name](made, **settings.synthesizer.losses())
    return DataFreeDistiller(teacher, student, synthesizer=synthesizer, seed=seed, **temperature)


_GENERATORS = {"dafl": DAFL, "zskt": ZSKT}


def make_inversion(teacher: keras.Model, settings: Inversion, value_range: tuple[float, float]) -> DeepInversion:
    """The synthesis of images in `value_range` from a teacher alone."""
    return DeepInversion(teacher, value_range=value_range, **settings.settings())


def _hyperparameters(settings: Any, total_steps: int) -> dict[str, Any]:
    temperature = settings.temperature
    return {
        "alpha": scheduled(settings.alpha, total_steps),
        "temperature": None if temperature is None else scheduled(temperature, total_steps),
    }


def _named(model: keras.Model, name: str) -> keras.Model:
    """The same layers under a name that does not depend on the models that were built before."""
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, model.outputs[0], name=name)
