"""Loads a recipe from a YAML file and `--set` overrides, or raises one readable error."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from keras_kd.errors import RecipeError, explain
from keras_kd.recipes.reading.schema import INHERITED, Recipe
from keras_kd.recipes.reading.together import check_together
from keras_kd.recipes.reading.yaml_text import MAX_DEPTH, parse, printable, read
from keras_kd.recipes.registry import recipe_class
from keras_kd.serialization import nearest


def default_text() -> str:
    """The commented recipe for the digits that ships with the package."""
    return importlib.resources.files("keras_kd.recipes").joinpath("digits.yaml").read_text("utf-8")


def load(
    path: str | Path | None = None, overrides: Iterable[str] = (), *, output_dir: str | Path | None = None
) -> Recipe:
    """Loads a recipe and validates every key.

    Args:
        path: a YAML file; None means the recipe that ships with the package.
        overrides: such as `"student.epochs=5"`: the path of a key, and a value in YAML.
        output_dir: replaces the recipe's run folder.

    Raises:
        RecipeError: lists every wrong key with the received and expected values.
    """
    settings = _parse(default_text() if path is None else read(Path(path)), printable(str(path or "digits.yaml")))
    return validated(settings, overrides, output_dir=output_dir)


def validated(settings: dict[str, Any], overrides: Iterable[str] = (), *, output_dir: Any = None) -> Recipe:
    """The recipe of these settings; see `load`."""
    for override in overrides:
        _set(settings, override)
    if output_dir is not None:
        settings["output_dir"] = str(output_dir)
    try:
        recipe = recipe_class().model_validate(settings)
    except ValidationError as error:
        raise RecipeError("\n".join(_describe(_not_inherited(error.errors())))) from None
    check_together(recipe)
    return recipe


def _parse(text: str, name: str) -> dict[str, Any]:
    settings = parse(text, f"{name} is not valid YAML")
    if not isinstance(settings, dict):
        raise RecipeError(explain(f"{name} is not a recipe.", received=_shown(settings), expected="a mapping of keys"))
    return settings


def _set(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(explain("Invalid --set.", received=_shown(override), expected="KEY=VALUE"))
    *parents, last = key.split(".")
    key = printable(key)
    if len(parents) >= MAX_DEPTH or not override.partition("=")[0].isprintable():
        raise RecipeError(explain("Invalid --set.", received=key, expected="a key of the recipe"))
    section = settings
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise RecipeError(
                explain(
                    f"{key}: {_shown(parent)} is not a section.",
                    received=_shown(override),
                    expected="KEY=VALUE, where KEY is a key of the recipe",
                )
            )
    section[last] = parse(text, f"{key}: {_shown(text)} is not valid YAML")


_BRANCH = re.compile(r"(bool|float|int|str|dict\[.*\]|tuple\[.*\]|literal\[.*\]|\[key\])$")
_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "none_required": "null",
    "missing": "a list of two",
    "too_long": "a list of two",
    "dict_type": "a schedule such as {name: cosine, start: 0.9, end: 0.1}",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
    "invalid_key": "text as the key",
    "string_pattern_mismatch": "letters, digits, '_', '-' and '.', not beginning with '-' or '.'",
}


_MAX_LINES = 20


def _describe(problems: list[dict[str, Any]]) -> list[str]:
    """A line per wrong key, in the terms of the recipe; `problems` are those of pydantic."""
    lines, expected, received = [], {}, {}
    for problem in problems:
        path = problem["loc"]
        if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
            tag = problem["ctx"]["discriminator"].strip("'()")
            problem, path = _about_the_tag(problem), (*path, tag)
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown(path))
        elif problem["type"] == "missing" and isinstance(path[-1], str):
            lines.append(f"{_key(path)}: this key is missing.")
        else:
            key = _key(path[:-1] if problem["type"] == "missing" else path)  # the key of the list that lacks an item
            words = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            kind = "invalid_key" if path[-1:] == ("[key]",) else problem["type"]
            expected.setdefault(key, []).append(_EXPECTED.get(kind, words))
            received[key] = _shown(problem["input"])
    for key, alternatives in expected.items():
        wanted = " or ".join(dict.fromkeys(alternatives))
        lines.append(explain(f"{key}: invalid value.", received=received[key], expected=wanted))
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"And {len(lines) - _MAX_LINES:,} more."]
    return lines


def _not_inherited(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The problems, without those of `few_labels` that are the same in `distillation`, where the values come from."""
    first = {(_key(problem["loc"]), repr(problem["input"])) for problem in problems}

    def is_inherited(problem: dict[str, Any]) -> bool:
        section, key, *_ = [*_key(problem["loc"]).split("."), ""]
        same = _key(problem["loc"]).replace("few_labels", "distillation", 1), repr(problem["input"])
        return section == "few_labels" and key in INHERITED and same in first

    return [problem for problem in problems if not is_inherited(problem)]


def _about_the_tag(problem: dict[str, Any]) -> dict[str, Any]:
    """The problem of a missing or unknown `name` of a section, in the words of one of a missing or wrong key."""
    if problem["type"] == "union_tag_not_found":
        return problem | {"type": "missing"}
    context = problem["ctx"]
    return problem | {"type": "name", "msg": f"one of {context['expected_tags']}", "input": context["tag"]}


def _key(path: tuple[Any, ...]) -> str:
    """A key by its path, without pydantic's additions: the branch of a union, `[key]`."""
    shown, _ = _followed(path)
    return ".".join(printable(part) for part in shown if not _BRANCH.match(part))


def _unknown(path: tuple[Any, ...]) -> str:
    known = _keys_at(path[:-1])
    return explain(
        f"{_key(path[:-1])}.{printable(path[-1])}: unknown key.".removeprefix("."),
        expected=f"one of {', '.join(known)}",
        fix=nearest(path[-1], known) or None,
    )


def _shown(value: Any) -> str:
    """A value as shown in a message: shortened, and lists as written in the recipe."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys_at(path: tuple[Any, ...]) -> list[str]:
    """The keys of the schema in the section at `path`."""
    _, sections = _followed(path)
    return sorted(sections[0].model_fields)


def _followed(path: tuple[Any, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """The parts of a path that a recipe has, without the tag of a section's class, and the classes of its section."""
    sections: list[type[BaseModel]] = [recipe_class()]
    shown = []
    for part in path:
        fields = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        tagged = [section for section in sections if part in _names(section)]
        if not fields and tagged and len(sections) > 1:  # not a key of the chosen class that is named like a tag
            sections = tagged
            continue
        shown.append(part)
        if not isinstance(part, int):  # an item of a list has the type that the previous part has found
            sections = [section for field in fields for section in _sections(field)]
    return [str(part) for part in shown], sections


def _names(section: type[BaseModel]) -> tuple[Any, ...]:
    """The names of which one selects this class for a section, by its key `name` or `method`."""
    selecting = [section.model_fields[key] for key in ("name", "method") if key in section.model_fields]
    return tuple(name for field in selecting for name in get_args(field.annotation))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The classes of sections in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]
