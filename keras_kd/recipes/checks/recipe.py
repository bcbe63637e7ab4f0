"""Checks a recipe before anything heavy starts: opens the data, builds the models, and tries every part once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.errors import RecipeError, explain
from keras_kd.model_files import load_file
from keras_kd.recipes.checked import CheckedRecipe, Sides, TrainedModel
from keras_kd.recipes.checks.curriculum import check_curriculum
from keras_kd.recipes.checks.key import checking
from keras_kd.recipes.checks.methods import check_method, copied_peers, seed_of
from keras_kd.recipes.checks.models import check_apart, check_builds, check_model, check_trainable, check_unfreezing
from keras_kd.recipes.checks.robust import check_adversaries, check_robustness
from keras_kd.recipes.checks.settings import check_schedules, check_settings, trained_models
from keras_kd.recipes.checks.sides import check_takes_inputs, open_sides
from keras_kd.recipes.checks.teachers import check_losses, check_snapshots, check_teacher
from keras_kd.recipes.compressing import make_transform
from keras_kd.recipes.models import build, identity, is_file
from keras_kd.recipes.reading.schema import Recipe, Training
from keras_kd.recipes.task import RecipeTask
from keras_kd.teachers import FrozenTeacher, Teacher


def check_recipe(recipe: Recipe) -> CheckedRecipe:
    """Tries every part once, starting with quick checks before the data are opened; writes nothing.

    Raises:
        RecipeError: a key does not fit (named in the message); or the Keras backend is not TensorFlow or JAX.
    """
    check_settings(recipe)
    sides = open_sides(recipe)
    source, task = sides.student, RecipeTask(sides.student)
    models, built = _build(recipe, sides, task)
    models |= copied_peers(recipe, source)
    with checking("models"):
        check_apart(built)
    _check_not_the_teacher(recipe, models)
    with checking("augment"):
        _check_augment(recipe, sides)
    _check_top_k(recipe, source)
    epochs = recipe.student.epochs or max(step.epochs for step in recipe.compress)
    total_steps = epochs * data.steps_per_epoch(source.train, recipe.student.batch_size)
    check_schedules(recipe, total_steps)
    teacher = check_teacher(recipe, built, sides, task)
    check_takes_inputs(teacher, sides)
    taught_by = check_snapshots(recipe, teacher, built, sides.teacher)
    check_losses(recipe, built, taught_by, total_steps)
    check_adversaries(recipe, taught_by, built["student"], source, task, total_steps)
    check_robustness(recipe, source, task)
    check_curriculum(recipe, sides, taught_by)
    _check_few_labels(recipe, source)
    steps_per_epoch = data.steps_per_epoch(source.train, recipe.student.batch_size)
    for name, model in built.items():
        if name == "student" or name.startswith("peer"):
            _check_compression(recipe, model, steps_per_epoch)
    check_method(recipe, models, source, task)
    return CheckedRecipe(
        recipe=recipe,
        sides=sides,
        task=task,
        models={name.replace(" ", "_"): model for name, model in models.items()},
        teacher_settings=_teacher_settings(recipe, teacher, is_built="teacher" in built),
        teacher_is_model=isinstance(teacher, FrozenTeacher),
        teacher_knows_one_set=teacher is not None and teacher.knows_one_set,
    )


def check_file(path: Path, role: str, checked: CheckedRecipe) -> None:
    """Raises `RecipeError` if a `.keras` file that is not named in the recipe has no model that fits the data."""
    with checking(str(path)):
        check_model(load_file(path), role, checked.sides.of(role), checked.task)


def _build(recipe: Recipe, sides: Sides, task: RecipeTask) -> tuple[dict[str, TrainedModel], dict[str, keras.Model]]:
    """The models of the run, and one built copy of each, by name."""
    models, built = {}, {}
    for name, settings in trained_models(recipe).items():
        source = sides.of(name)
        make = functools.partial(build, settings.model, source, seed_of(name, recipe), new_head=settings.replace_head)
        with checking(f"{name}.{'replace_head' if settings.replace_head else 'model'}"):
            model = make()
            if name == "teacher" and isinstance(model, Teacher):
                continue
            check_model(model, name, source, task)
            _check_new(model, make, name, settings)
        if settings.epochs is None and not settings.is_trained_file:
            raise RecipeError(f"{name}.epochs: this key is missing.")
        if settings.unfreeze:
            with checking(f"{name}.unfreeze"):
                check_unfreezing(make(), settings)
        built[name], models[name] = model, TrainedModel(settings, make, identity(model))
    return models, built


def _teacher_settings(recipe: Recipe, teacher: Teacher | None, *, is_built: bool) -> dict[str, Any]:
    """The settings that the teacher's outputs depend on, besides the weights of its own model."""
    if teacher is None:
        return {}
    settings = recipe.teacher.model_dump(include={"dtype", "ensemble_with", "weights", "combine"})
    if recipe.teacher.ensemble_with:
        settings["ensemble fingerprint"] = [member.fingerprint for member in teacher.members[is_built:]]
        if teacher.activation != "softmax":
            settings["activation"] = teacher.activation
    elif not is_built:
        settings["teacher fingerprint"] = teacher.fingerprint
    return settings


def _check_new(model: keras.Model, make: Callable[[], keras.Model], role: str, settings: Training) -> None:
    """Checks that a model of the run can be trained, and that each build gives a new copy."""
    if role == "teacher" and settings.is_trained_file:
        return
    check_trainable(model, role)
    if not is_file(settings.model):
        again = make()
        if not again.built:
            again.build(model.input_shape)
        check_builds(model, again, settings.model)


def _check_not_the_teacher(recipe: Recipe, models: dict[str, TrainedModel]) -> None:
    """Raises `RecipeError` for a model to train that is identical to the trained teacher."""
    if "teacher" not in models or not recipe.teacher.is_trained_file or not recipe.has_own_teacher:
        return
    for name, model in models.items():
        if name != "teacher" and model.settings.epochs is not None and model.identity == models["teacher"].identity:
            raise RecipeError(
                explain(
                    f"{name}.model: identical to the teacher, in layers and weights.",
                    received=f"{model.settings.model}, taught by {recipe.teacher.model}",
                    expected="another model",
                )
            )


def _check_top_k(recipe: Recipe, source: data.DataSource) -> None:
    top_k = recipe.cache and recipe.cache.top_k
    if top_k is not None and not source.task.has_classes:
        raise RecipeError(
            explain(
                "cache.top_k: the classes of the task are not exclusive.",
                received=f"{top_k}, and the task {source.task.name!r}",
                expected="cache.top_k: null, which keeps all outputs",
            )
        )
    if top_k is not None and top_k >= source.num_classes:
        raise RecipeError(
            explain(
                "cache.top_k: invalid value.",
                received=top_k,
                expected=f"1 to {source.num_classes - 1}, fewer than the {source.num_classes} classes of the data",
                fix="cache.top_k: null keeps all classes.",
            )
        )


def _check_augment(recipe: Recipe, sides: Sides) -> None:
    """Raises `ConfigurationError` if an augmentation is unknown or does not fit the images."""
    one = sides.examples(lambda source: source.train.subset(np.array([0]), "one"))
    data.Pipeline(one, augment=list(recipe.augment))


def _check_compression(recipe: Recipe, student: keras.Model, steps_per_epoch: int) -> None:
    """Applies each technique to the untrained student, without the channels that the techniques before it remove."""
    for index, settings in enumerate(recipe.compress):
        _check_order(index, [step.name for step in recipe.compress])
        with checking(f"compress.{index}"):
            compressed = make_transform(settings, settings.epochs * steps_per_epoch).apply(student, verbose=False)
        if not reparametrized_layers(compressed):
            student = compressed


def _check_order(index: int, names: list[str]) -> None:
    """Raises `RecipeError` if a technique would destroy what one before it did."""
    before = [name for name in names[:index] if name != "channel_pruning"]
    if names[index] == "channel_pruning" and before:
        raise RecipeError(
            explain(
                f"compress.{index}: the training after channel pruning does not keep what {before[-1]} did.",
                received=", ".join(names),
                expected="channel_pruning before the other techniques",
            )
        )
    if "quantization_aware" in before:
        raise RecipeError(
            explain(
                f"compress.{index}: {names[index]} would lose the rounding and the ranges of quantization_aware.",
                received=", ".join(names),
                expected="quantization_aware as the last technique",
            )
        )


def _check_few_labels(recipe: Recipe, source: data.DataSource) -> None:
    few = recipe.few_labels
    if few is None:
        return
    least, most = len(np.unique(source.task.strata(source.train.labels()))), source.train.num_examples
    if not least <= few.num_labels <= most:
        group = "class" if source.task.has_classes else "stratum"
        raise RecipeError(
            explain(
                "few_labels.num_labels: invalid value.",
                received=few.num_labels,
                expected=f"{least} (one per {group}) to {most} (the training {source.unit})",
                fix="few_labels: null leaves the comparison out.",
            )
        )
