"""Checks the method of distillation, by making its distiller once."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import keras

from keras_kd import data
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.recipes.checked import TrainedModel
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.methods.making import (
    make_data_free_distiller,
    make_inversion,
    make_mutual_distiller,
    make_peers,
    make_self_distiller,
)
from keras_kd.recipes.models import build, identity
from keras_kd.recipes.reading.methods import DataFree, Generator, Mutual, SelfTaught
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.recipes.task import RecipeTask
from keras_kd.teachers.frozen import fingerprint

_SEEDS = 2**32


def copied_peers(recipe: Recipe, source: data.DataSource) -> dict[str, TrainedModel]:
    """The peers that have the architecture of the student and other initial weights, by name."""
    settings = recipe.distillation
    if not isinstance(settings, Mutual) or settings.mode == "one" or settings.named:
        return {}
    models = {}
    with checking("distillation.peers"):
        for number in range(2, settings.num_peers + 1):
            name = f"peer {number}"
            make = functools.partial(build, recipe.student.model, source, seed_of(name, recipe))
            models[name] = TrainedModel(recipe.student, make, identity(_built(make(), source)))
    return models


def seed_of(name: str, recipe: Recipe) -> int:
    """The seed of the initial weights of a model; peers of the same architecture start differently."""
    number = int(name.removeprefix("peer ")) if name.startswith("peer ") else 1  # the first is the student
    return (recipe.seed + number - 1) % _SEEDS


def check_method(recipe: Recipe, models: dict[str, TrainedModel], source: data.DataSource, task: RecipeTask) -> None:
    """Makes the distiller of the method once, from new models.

    Raises:
        RecipeError: the method does not fit the models or the data.
    """
    settings = recipe.distillation
    if getattr(settings, "keep_exits", False):
        with checking("distillation.keep_exits"):
            _check_confidence(source, task)
    with checking("distillation"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # shown when the training starts
        if isinstance(settings, SelfTaught):
            student = _built(models["student"].build(), source)
            _compile(make_self_distiller(student, settings, 1), student, recipe, task)
        elif isinstance(settings, Mutual):
            _check_mutual(recipe, models, source, task)
        elif isinstance(settings, DataFree):
            _check_data_free(recipe, models, source, task)


def _check_confidence(source: data.DataSource, task: RecipeTask) -> None:
    if not task.is_classification or source.num_classes < 2 or not (source.test.labels() >= 0).any():
        raise ConfigurationError(
            explain(
                "An example leaves early by the probability of its class.",
                received=f"the task {task.kind.name!r} with {source.num_classes} output(s)",
                expected="a classification with labeled test examples, or keep_exits: false",
            )
        )


def _check_mutual(recipe: Recipe, models: dict[str, TrainedModel], source: data.DataSource, task: RecipeTask) -> None:
    settings = recipe.distillation
    student, *others = (
        _built(model.build(), source)
        for name, model in sorted(models.items(), key=lambda item: (item[0] != "student", len(item[0]), item[0]))
        if name == "student" or name.startswith("peer")
    )
    peers = make_peers(student, others, settings)
    starts = [fingerprint(peer) for peer in (student, *others)]
    if len(set(starts)) < len(starts):
        raise ConfigurationError(
            explain(
                "Peers with the same initial weights have nothing to teach each other.",
                received=f"{len(starts)} peers, {len(set(starts))} of them different",
                expected="models with other weights, such as a function without fixed seeds",
            )
        )
    _compile(make_mutual_distiller(peers, settings, 1), student, recipe, task)


def _check_data_free(
    recipe: Recipe, models: dict[str, TrainedModel], source: data.DataSource, task: RecipeTask
) -> None:
    settings = recipe.distillation
    if not task.is_classification or "teacher" not in models:
        raise ConfigurationError(
            explain(
                "Images are synthesized from a Keras classifier.",
                received=f"the task {task.kind.name!r}, and the teacher {recipe.teacher.model}",
                expected="a classification of images, and a teacher that is a Keras model",
            )
        )
    teacher, student = (_built(models[name].build(), source) for name in ("teacher", "student"))
    if not isinstance(settings.synthesizer, Generator):
        make_inversion(teacher, settings.synthesizer, recipe.data.value_range)
        return
    if recipe.student.batch_size < 2:
        raise ConfigurationError(
            explain("The entropy over a batch of one image is none.", received="student.batch_size: 1", expected=">= 2")
        )
    options = {"value_range": recipe.data.value_range, "seed": recipe.seed}
    _compile(make_data_free_distiller(teacher, student, settings, 1, **options), student, recipe, task)


def _compile(distiller: Any, student: keras.Model, recipe: Recipe, task: RecipeTask) -> None:
    """Compiles a distiller, since its terms follow from the loss."""
    distiller.compile("sgd", loss=task.loss(student, mixed=False))


def _built(model: keras.Model, source: data.DataSource) -> keras.Model:
    if not model.built:
        model.build((None, *source.input_shape))
    return model
