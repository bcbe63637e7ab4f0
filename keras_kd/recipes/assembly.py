"""The check before anything heavy: opens the data, builds both models, and holds them against each other."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, schedules
from keras_kd.distillers import Distiller
from keras_kd.errors import ConfigurationError, KerasKDError, Notice, RecipeError, check_number, explain
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses.multi_teacher import soft_targets_per_teacher
from keras_kd.recipes import teaching
from keras_kd.recipes.building import (
    build,
    check_apart,
    check_builds,
    check_model,
    check_name,
    check_trainable,
    identity,
    is_file,
    load_file,
)
from keras_kd.recipes.schema import Distillation, Recipe, Training, is_given
from keras_kd.teachers import Panel, Teacher

_RANGES = {"alpha": (0.0, 1.0), "temperature": (1e-3, 1e3)}
_MAX_CHECKED_STEPS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Role:
    """A model that the run trains.

    Attributes:
        settings: how it is trained.
        build: makes it anew, with weights that depend on the recipe's seed alone.
        identity: a hash of the model as it is built.
    """

    settings: Training
    build: Callable[[], keras.Model]
    identity: str


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A recipe whose parts are known to fit.

    Attributes:
        recipe: as it was read.
        source: the opened data.
        roles: what the run trains, by `"teacher"` (where it is not given), `"assistant 1"` and so on, `"student"`.
    """

    recipe: Recipe
    source: data.DataSource
    roles: dict[str, Role]

    @property
    def teacher_is_given(self) -> bool:
        """Whether the teacher comes trained: as a file, or from a function."""
        return "teacher" not in self.roles or is_file(self.recipe.teacher.model)

    @property
    def assistants(self) -> dict[str, Role]:
        """The assistants by name, the largest first."""
        return {name: role for name, role in self.roles.items() if name.startswith("assistant")}


def assemble(recipe: Recipe) -> Assembly:
    """Tries every part once, what is quick before the data is opened; writes nothing.

    Raises:
        RecipeError: naming the key that does not fit; or Keras runs on another backend than TensorFlow.
    """
    _check_backend()
    _check_without_data(recipe)
    with _about("data"):
        settings = recipe.data.model_dump()
        source = data.open_source(settings.pop("source"), **settings, seed=recipe.seed)
    roles, models = {}, {}
    for name, settings in _trained(recipe).items():
        make = functools.partial(build, settings.model, source, recipe.seed)
        with _about(f"{name}.model"):
            model = make()
            if name == "teacher" and isinstance(model, Teacher):
                continue
            check_model(model, name, source)
            _check_new(model, make, name, settings)
        if settings.epochs is None and not is_file(settings.model):
            raise RecipeError(f"{name}.epochs: this key is missing.")
        models[name], roles[name] = model, Role(settings, make, identity(model))
    with _about("models"):
        check_apart(models)
    _check_not_the_teacher(recipe, roles)
    with _about("augment"):
        _check_augment(recipe, source)
    _check_top_k(recipe, source)
    total_steps = recipe.student.epochs * data.steps_per_epoch(source.train, recipe.student.batch_size)
    _check_schedules(recipe, total_steps)
    _check_teachers(recipe, models, source)
    _check_losses(recipe, models, total_steps)
    _check_few_labels(recipe, source)
    return Assembly(recipe, source, roles)


def _trained(recipe: Recipe) -> dict[str, Training]:
    """The models of a recipe that Keras builds or loads, by role."""
    assistants = {f"assistant {number}": settings for number, settings in enumerate(recipe.assistants, 1)}
    teacher = {"teacher": recipe.teacher} if not is_given(recipe.teacher.model) or is_file(recipe.teacher.model) else {}
    return teacher | assistants | {"student": recipe.student}


def check_file(path: Path, role: str, source: data.DataSource) -> None:
    """Raises `RecipeError` where a `.keras` file that the recipe does not name holds no model that fits the data."""
    with _about(str(path)):
        check_model(load_file(path), role, source)


def make_optimizer(settings: Training, total_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a training of `total_steps` steps."""
    rate: Any = settings.learning_rate
    if settings.learning_rate_decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, total_steps)
    config: dict[str, Any] = {"learning_rate": rate}
    if settings.weight_decay is not None:
        config["weight_decay"] = settings.weight_decay
    return type(keras.optimizers.get(settings.optimizer))(**config)


def scheduled(value: Any, total_steps: int) -> Any:
    """A number as it is; a schedule with `steps` filled in where the recipe left them out."""
    if not isinstance(value, dict):
        return value
    takes_steps = value.get("name") in ("linear", "cosine", "exponential", "polynomial")
    return schedules.get({**({"steps": total_steps} if takes_steps else {}), **value})


def make_distiller(
    teacher: Any,
    student: keras.Model,
    settings: Distillation,
    total_steps: int,
    drop: float = 0.0,
    seed: int = 0,
) -> Distiller:
    """The distiller of a training of `total_steps` steps; with several teachers, of which `drop` are left out."""
    losses = settings.losses and [_scheduled_within(loss, total_steps) for loss in settings.losses]
    names = list(teacher.output_shapes or ()) if isinstance(teacher, Teacher) else []
    if len(names) > 1:
        losses = soft_targets_per_teacher(student, names, drop, seed)
    return Distiller(
        teacher,
        student,
        alpha=scheduled(settings.alpha, total_steps),
        temperature=scheduled(settings.temperature, total_steps),
        losses=losses,
    )


def _scheduled_within(loss: Any, total_steps: int) -> Any:
    """The settings of a loss with its schedules made: its weight, its temperature, those of a loss inside it."""
    if not isinstance(loss, dict):
        return loss
    made = {}
    for key, value in loss.items():
        is_schedule = isinstance(value, dict) and value.get("name") in schedules.registry.names
        made[key] = scheduled(value, total_steps) if is_schedule else _scheduled_within(value, total_steps)
    return made


@contextlib.contextmanager
def _about(key: str) -> Iterator[None]:
    """Whatever a part of the check says is about `key`."""
    try:
        yield
    except (KerasKDError, ValueError, TypeError, OSError, ImportError) as error:
        raise RecipeError(f"{key}: {error}") from error


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            explain(
                "A recipe needs Keras on TensorFlow.",
                received=f"the backend {keras.backend.backend()!r}",
                expected="'tensorflow', of which the .tflite files are made",
                fix="Set KERAS_BACKEND=tensorflow. Losses and schedules also run on JAX.",
            )
        )


def _check_new(model: keras.Model, make: Callable[[], keras.Model], role: str, settings: Training) -> None:
    """A model that the run trains can be trained, and is made anew each time."""
    if role == "teacher" and is_file(settings.model):
        return
    check_trainable(model, role)
    if not is_file(settings.model):
        again = make()
        if not again.built:
            again.build(model.input_shape)
        check_builds(model, again, settings.model)


def _check_not_the_teacher(recipe: Recipe, roles: dict[str, Role]) -> None:
    """A student that begins as the trained teacher has nothing to learn from it."""
    if "teacher" not in roles or not is_file(recipe.teacher.model):
        return
    for name, role in roles.items():
        if name != "teacher" and role.identity == roles["teacher"].identity:
            raise RecipeError(
                explain(
                    f"{name}.model: this is the teacher, layers and weights.",
                    received=f"{role.settings.model}, taught by {recipe.teacher.model}",
                    expected="another model",
                )
            )


def _check_top_k(recipe: Recipe, source: data.DataSource) -> None:
    top_k = recipe.cache and recipe.cache.top_k
    if top_k is not None and top_k >= source.num_classes:
        raise RecipeError(
            explain(
                "cache.top_k: not usable.",
                received=top_k,
                expected=f"1 to {source.num_classes - 1}, fewer than the {source.num_classes} classes of the data",
                fix="cache.top_k: null keeps whole rows.",
            )
        )


def _check_without_data(recipe: Recipe) -> None:
    """All that can be said before the data is opened, which may mean a long download."""
    with _about("output_dir"):
        _check_folder(recipe.folder)
    if recipe.cache is not None and recipe.cache.folder is not None:
        with _about("cache.folder"):
            _check_folder(Path(recipe.cache.folder))
    for role, settings in _trained(recipe).items():
        with _about(f"{role}.model"):
            check_name(settings.model)
        with _about(f"{role}.optimizer"):
            make_optimizer(settings, total_steps=1)
    for name in recipe.teacher.ensemble_with:
        with _about("teacher.ensemble_with"):
            teaching.check_file(name)
    _check_schedules(recipe, total_steps=1)
    _check_ensemble_settings(recipe.teacher)


def _check_ensemble_settings(teacher: Any) -> None:
    for name, default in (("weights", None), ("combine", "probabilities")):
        if getattr(teacher, name) != default and not teacher.ensemble_with:
            raise RecipeError(
                explain(
                    f"teacher.{name}: this is for an ensemble, and the teacher is alone.",
                    received=getattr(teacher, name),
                    expected=f"teacher.ensemble_with: [b.keras, ...] beside it, or no teacher.{name}",
                )
            )


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigurationError(explain("this is no folder.", received=str(existing), expected="a folder"))
    try:
        if not os.access(existing, os.W_OK):
            raise PermissionError
        with tempfile.TemporaryFile(dir=existing):  # some systems refuse although they say yes, such as /proc
            pass
    except OSError:
        raise ConfigurationError(
            explain("nothing can be written there.", received=str(existing), expected="a folder of your own")
        ) from None


def _check_schedules(recipe: Recipe, total_steps: int) -> None:
    """Alpha and temperature in their ranges, a schedule at every step of the training."""
    for section in ("distillation", "few_labels"):
        for name in _RANGES:
            value = getattr(getattr(recipe, section), name, None)
            if value is not None:
                with _about(f"{section}.{name}"):
                    _check_scheduled(name, scheduled(value, total_steps), total_steps)


def _check_scheduled(name: str, value: Any, total_steps: int) -> None:
    at_least, at_most = _RANGES[name]
    Hyperparameter(name, value, at_least=at_least, at_most=at_most)
    if isinstance(value, schedules.Schedule):
        every = -(-total_steps // _MAX_CHECKED_STEPS)
        course = np.asarray(value(np.append(np.arange(0, total_steps, every), total_steps - 1)))
        for extreme in (course.min(), course.max()):
            check_number(name, round(float(extreme), 6), at_least=at_least, at_most=at_most)


def _check_augment(recipe: Recipe, source: data.DataSource) -> None:
    """Augmentations that are known and fit the images."""
    data.Pipeline(source.train.subset(np.array([0]), "one"), list(recipe.augment))


def _check_teachers(recipe: Recipe, models: dict[str, keras.Model], source: data.DataSource) -> None:
    """Makes the teacher as it will teach, before it is trained: its files, its precision, the ensemble."""
    with _about("teacher"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # it is said when the training starts
        teacher = teaching.teacher_of(recipe, models.get("teacher"), source)
        shapes = teacher.output_shapes
        if shapes is not None and [shape[-1] for shape in shapes.values()] != [source.num_classes]:
            raise ConfigurationError(
                explain(
                    "its outputs do not fit the data.",
                    received=f"{shapes}",
                    expected=f"one output of {source.num_classes} classes, as {source.name!r} has",
                )
            )
        if teacher.runs_outside_step:
            teaching.pipeline(recipe, source.train, recipe.student, source.num_classes).with_teacher(teacher)
    with _about("drop"):
        if recipe.drop and recipe.guidance != "all":
            raise ConfigurationError(
                explain(
                    "a single teacher cannot be left out.",
                    received=f"drop: {recipe.drop:g}, guidance: {recipe.guidance}",
                    expected="drop: 0, or guidance: all",
                )
            )
    if recipe.guidance == "all":
        with _about("guidance"):
            _check_guidance(recipe, teacher, models)


def _check_guidance(recipe: Recipe, teacher: Teacher, models: dict[str, keras.Model]) -> None:
    """Raises `ConfigurationError` where not all models above the student can teach it at once."""
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None and settings.losses is not None:
            raise ConfigurationError(
                explain(
                    "with several teachers the losses are the soft targets of each.",
                    received=f"guidance: all and {section}.losses",
                    expected="no losses, or guidance: previous",
                )
            )
    Panel([teacher, *(model for name, model in models.items() if name.startswith("assistant"))])


def _check_losses(recipe: Recipe, models: dict[str, keras.Model], total_steps: int) -> None:
    """Makes each distiller once: the losses, the layers that they name, and what they compare."""
    above = list(models)[-2] if len(models) > 1 else None
    if above is None or (above == "teacher" and recipe.teacher.ensemble_with):
        return
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None and settings.losses is not None:
            with _about(f"{section}.losses"), warnings.catch_warnings():
                warnings.simplefilter("ignore", Notice)  # it is said when the training starts
                make_distiller(models[above], models["student"], settings, total_steps)


def _check_few_labels(recipe: Recipe, source: data.DataSource) -> None:
    few = recipe.few_labels
    if few is None:
        return
    least, most = source.num_classes, source.train.num_examples
    if not least <= few.num_labels <= most:
        raise RecipeError(
            explain(
                "few_labels.num_labels: not usable.",
                received=few.num_labels,
                expected=f"{least} (one per class) to {most} (the training images)",
                fix="few_labels: null leaves the comparison out.",
            )
        )
