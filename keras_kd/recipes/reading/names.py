"""Finds misspelled names in a recipe before Keras and its backend are loaded, which takes seconds.

The known names (models, losses, schedules, augmentations, optimizers) are parsed from the source of the modules that
define them. `check_recipe` checks all names again with the modules loaded.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.errors import ConfigurationError, RecipeError
from keras_kd.recipes.reading.schema import Recipe, Training, is_given
from keras_kd.serialization import look_up, snake_case

_PACKAGE = Path(__file__).parents[2]
_REGISTERED = re.compile(r"^@registry\.register\n(?:@.*\n)*class (\w+)", re.MULTILINE)
_MODEL = re.compile(r'^    "(\w+)": \w+,$', re.MULTILINE)
_SOURCE = re.compile(r'"(\w+)[:"]')
_OPTIMIZER = re.compile(r"\bas ([A-Z]\w+)")


def check_names(recipe: Recipe) -> None:
    """Raises `RecipeError` with a list of every unknown name in a recipe.

    A recipe with `module:function` is not checked here, because that module may register its own names.
    """
    trainings = list(_trainings(recipe))
    if any(":" in training.model for _, training in trainings):
        return
    problems = []
    for key, kind, name in (*_of_models(trainings), *_of_methods(recipe)):
        members = known(kind)
        try:
            if members:
                look_up(kind, name, members)
        except ConfigurationError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise RecipeError("\n".join(problems))


@functools.cache
def known(kind: str) -> dict[str, str]:
    """The names of a kind ("model", "loss", "schedule", "augmentation", "optimizer", "data source") as keys.

    Empty if they cannot be read.
    """
    if kind == "optimizer":
        return {name.lower(): name for name in _OPTIMIZER.findall(_optimizers())}
    if kind == "model":
        return dict.fromkeys(_MODEL.findall(_text("models/building.py")), "")
    if kind == "data source":
        forms = re.search(r"^FORMS = .*$", _text("data/sources/opening.py"), re.MULTILINE)
        return dict.fromkeys(_SOURCE.findall(forms[0]) if forms else (), "")
    place = {"loss": "losses/*.py", "augmentation": "data/**/*.py", "schedule": "schedules.py"}[kind]
    return {snake_case(name): name for name in _REGISTERED.findall(_text(place))}


def _text(pattern: str) -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(_PACKAGE.glob(pattern)))


def _optimizers() -> str:
    """The source of Keras' public optimizers module; empty if Keras is installed without sources."""
    found = importlib.util.find_spec("keras")
    files = [Path(place, "optimizers", "__init__.py") for place in (found and found.submodule_search_locations) or ()]
    return "".join(file.read_text("utf-8") for file in files if file.is_file())


def _trainings(recipe: Recipe) -> Iterator[tuple[str, Training]]:
    if recipe.teacher is not None:
        yield "teacher", recipe.teacher
    yield from ((f"assistant {number}", settings) for number, settings in enumerate(recipe.assistants, 1))
    yield "student", recipe.student
    for name in getattr(recipe.distillation, "named", ()):
        yield "distillation.peers", recipe.student.model_copy(update={"model": name})


def _of_models(trainings: list[tuple[str, Training]]) -> Iterator[tuple[str, str, str]]:
    """Key, kind and name of each model and optimizer; a name with a dot or a slash is a file and is skipped."""
    for role, training in trainings:
        is_peer = role == "distillation.peers"  # trained with the optimizer of the student
        if re.fullmatch(r"\w+", training.model) and not is_given(training.model):
            yield role if is_peer else f"{role}.model", "model", training.model
        if re.fullmatch(r"\w+", training.optimizer) and not is_peer:
            yield f"{role}.optimizer", "optimizer", training.optimizer.lower()


def _of_methods(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    yield "data.source", "data source", recipe.data.source.partition(":")[0]
    if recipe.data.teacher is not None and recipe.data.teacher.source is not None:
        yield "data.teacher.source", "data source", recipe.data.teacher.source.partition(":")[0]
    for setting in recipe.augment:
        yield from _named("augment", "augmentation", setting)
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        if settings is not None:
            for key in ("alpha", "temperature"):
                yield from _named(f"{section}.{key}", "schedule", getattr(settings, key))
            if section == "distillation" or settings.losses != recipe.distillation.losses:  # inherited if equal
                for loss in settings.losses or ():
                    yield from _named(f"{section}.losses", "loss", loss)


def _named(key: str, kind: str, setting: Any) -> Iterator[tuple[str, str, str]]:
    name = setting.get("name") if isinstance(setting, dict) else setting
    if isinstance(name, str):
        yield key, kind, name
