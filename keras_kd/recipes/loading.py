"""From a YAML file and `--set` overrides to a `Recipe`, or to one readable message."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from keras_kd.errors import RecipeError, explain
from keras_kd.recipes.schema import Recipe
from keras_kd.serialization import nearest


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does; PyYAML, which follows 1.1, makes it text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def default_text() -> str:
    """The commented recipe that ships with the package: the digits."""
    return importlib.resources.files("keras_kd.recipes").joinpath("digits.yaml").read_text("utf-8")


def load(
    path: str | Path | None = None, overrides: Iterable[str] = (), *, output_dir: str | Path | None = None
) -> Recipe:
    """Reads a recipe and checks every key.

    Args:
        path: a YAML file; None is the recipe that ships with the package.
        overrides: `"student.epochs=5"`: a key by its path and a value as YAML writes it.
        output_dir: the run folder, in place of the recipe's.

    Raises:
        RecipeError: with every wrong key, what it was and what was expected.
    """
    settings = _parse(default_text() if path is None else _read(Path(path)), str(path or "digits.yaml"))
    for override in overrides:
        _set(settings, override)
    if output_dir is not None:
        settings["output_dir"] = str(output_dir)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RecipeError(
            explain(
                f"Cannot read the recipe: {reason}.",
                received=str(path),
                expected="a YAML file",
                fix="`keras-kd init recipe.yaml` writes one to start from.",
            )
        ) from None


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        settings = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise RecipeError(explain(f"{name} is no recipe.", received=repr(settings), expected="a mapping of keys"))
    return settings


def _set(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(explain("--set is not usable.", received=repr(override), expected="KEY=VALUE"))
    *parents, last = key.split(".")
    section = settings
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise RecipeError(
                explain(
                    f"{key}: {parent!r} has no keys below it.",
                    received=repr(override),
                    expected="a key that exists",
                )
            )
    try:
        section[last] = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise RecipeError(explain(f"{key}: not valid YAML.", received=repr(text))) from None


def _describe(problem: dict[str, Any]) -> str:
    """One line of a pydantic error, in the words of the recipe."""
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        return explain(
            f"{'.'.join(path)}: unknown key.",
            expected=f"one of {', '.join(known)}",
            fix=nearest(path[-1], known) or None,
        )
    if problem["type"] == "missing":
        return f"{'.'.join(path)}: this key is missing."
    path = [part for part in path if part.replace("_", "").isalnum() and part not in ("float", "str", "int", "dict")]
    expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return explain(f"{'.'.join(path)}: not usable.", received=repr(problem["input"]), expected=expected)


def _keys_at(path: list[str]) -> list[str]:
    """The keys that the schema knows in the section at `path`."""
    section: Any = Recipe
    for part in path:
        candidates = [section.model_fields[part].annotation]
        candidates += list(getattr(candidates[0], "__args__", ()))
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return sorted(section.model_fields)
