"""The check before anything heavy: opens the data, builds both models, and holds them against each other."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_kd import data, models, schedules
from keras_kd.errors import ConfigurationError, KerasKDError, RecipeError, explain
from keras_kd.features import find_heads, output_shapes
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.recipes.schema import Recipe, Training


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A recipe whose parts are known to fit.

    Attributes:
        recipe: as it was read.
        source: the opened data.
        build_teacher, build_student: make the model anew, with weights that depend on the recipe's seed alone.
    """

    recipe: Recipe
    source: data.DataSource
    build_teacher: Callable[[], keras.Model]
    build_student: Callable[[], keras.Model]

    @property
    def teacher_is_given(self) -> bool:
        """Whether the teacher comes trained, as a file."""
        return is_file(self.recipe.teacher.model)


def assemble(recipe: Recipe) -> Assembly:
    """Opens the data and tries every part once; writes nothing.

    Raises:
        RecipeError: naming the key that does not fit.
    """
    source = _at("data", lambda: _open(recipe))
    builders = {}
    for role in ("teacher", "student"):
        settings: Training = getattr(recipe, role)
        builders[role] = _builder(settings.model, f"{role}.model", source, recipe.seed)
        model = _at(f"{role}.model", builders[role])
        _at(f"{role}.model", lambda model=model, role=role: check_model(model, role, source))
        _at(f"{role}.optimizer", lambda settings=settings: make_optimizer(settings, total_steps=1))
    sections = {"distillation": recipe.distillation, "few_labels": recipe.few_labels}
    for name, section in sections.items():
        if section is not None:
            _at(f"{name}.alpha", lambda s=section: _check_scheduled("alpha", s.alpha, 0.0, 1.0))
            _at(f"{name}.temperature", lambda s=section: _check_scheduled("temperature", s.temperature, 1e-3))
    _check_few_labels(recipe, source)
    _check_folder(recipe.folder)
    return Assembly(recipe, source, builders["teacher"], builders["student"])


def is_file(name: str) -> bool:
    """Whether a model's name is that of a file rather than of a function."""
    return name.endswith(".keras")


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


def _at(key: str, function: Callable[[], Any]) -> Any:
    """Runs a part of the check; whatever it says is about `key`."""
    try:
        return function()
    except RecipeError:
        raise
    except (KerasKDError, ValueError, TypeError, OSError, ImportError) as error:
        raise RecipeError(f"{key}: {error}") from error


def _open(recipe: Recipe) -> data.DataSource:
    settings = recipe.data.model_dump()
    return data.open_source(settings.pop("source"), **settings, seed=recipe.seed)


def _builder(name: str, key: str, source: data.DataSource, seed: int) -> Callable[[], keras.Model]:
    shape, num_classes = tuple(source.input_shape), source.num_classes

    def build() -> keras.Model:
        keras.utils.set_random_seed(seed)
        if is_file(name):
            return keras.models.load_model(name, compile=False)
        if ":" in name:
            return _call(_import(name, key), input_shape=shape, num_classes=num_classes)
        return models.build(name, input_shape=shape, num_classes=num_classes)

    if is_file(name) and not Path(name).exists():
        raise RecipeError(explain(f"{key}: the file is not there.", received=name, expected="a .keras file"))
    return build


def _import(name: str, key: str) -> Callable[..., keras.Model]:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            explain(f"{key}: {error}.", received=name, expected="module:function, importable from here")
        ) from None


def _call(function: Callable[..., keras.Model], **available: Any) -> keras.Model:
    """Calls a user's function with those of the arguments that it takes."""
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return function(**{k: v for k, v in available.items() if takes_all or k in parameters})


def check_model(model: Any, role: str, source: data.DataSource) -> None:
    """Raises `ConfigurationError` where a model does not fit the data: its input, its classes, its last layer."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain("This makes no model.", received=type(model).__name__, expected="a keras.Model")
        )
    if not model.built:
        model.build((None, *source.input_shape))
    shapes = output_shapes(model) or {"output": model.compute_output_shape((None, *source.input_shape))}
    received = next(iter(shapes.values()))
    if len(shapes) != 1 or tuple(received) != (None, source.num_classes):
        raise ConfigurationError(
            explain(
                f"The {role}'s outputs do not fit the data.",
                received=f"{shapes}",
                expected=f"one output of {source.num_classes} classes, as {source.name!r} has",
            )
        )
    expected = (None, *source.input_shape)
    wanted = tuple(model.input_shape) if getattr(model, "inputs", None) else expected
    fits = len(wanted) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(wanted, expected, strict=True)
    )
    if not fits:
        raise ConfigurationError(
            explain(
                f"The {role}'s input does not fit the data.",
                received=f"{wanted}",
                expected=f"{expected}, as {source.name!r} has",
                fix="data.image_size resizes the images.",
            )
        )
    find_heads(model, role=role)


def _check_scheduled(name: str, value: Any, at_least: float, at_most: float = float("inf")) -> None:
    Hyperparameter(name, scheduled(value, total_steps=100), at_least=at_least, at_most=at_most)


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


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise RecipeError(explain("output_dir: this is no folder.", received=str(existing), expected="a folder"))
