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
    """Reads 1e-3 as a number, as YAML 1.2 does; PyYAML, which follows 1.1, makes it text. No key may come twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else key
            if name in seen:
                problem = f"the key {name!r} comes twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


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
        raise RecipeError("\n".join(_describe(error.errors()))) from None


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
    settings = _parse_yaml(text, f"{name} is not valid YAML")
    if not isinstance(settings, dict):
        raise RecipeError(explain(f"{name} is no recipe.", received=_shown(settings), expected="a mapping of keys"))
    return settings


def _parse_yaml(text: str, problem: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{problem}: {where}{error.problem}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2025-13-01
        raise RecipeError(f"{problem}: {str(error).splitlines()[0]}.") from None


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
                    expected="KEY=VALUE, with a key that a recipe has",
                )
            )
    section[last] = _parse_yaml(text, f"{key}: {text!r} is not valid YAML")


_UNION_BRANCHES = ("float", "str")  # which pydantic puts into the path of a key
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "missing": "a list of two",
    "too_long": "a list of two",
    "dict_type": "a schedule such as {name: cosine, start: 0.9, end: 0.1}",
    "model_type": "a section with keys of its own",
    "invalid_key": "text as the key",
    "string_pattern_mismatch": "letters, digits, '_', '-' and '.', not beginning with '-' or '.'",
}


def _describe(problems: list[dict[str, Any]]) -> list[str]:
    """A line per wrong key, in the words of the recipe; `problems` as pydantic lists them."""
    lines, expected, received = [], {}, {}
    for problem in problems:
        path = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown(path))
        elif problem["type"] == "missing" and isinstance(problem["loc"][-1], str):
            lines.append(f"{'.'.join(path)}: this key is missing.")
        else:
            path = path[:-1] if problem["type"] == "missing" else path  # of the item that a list lacks
            key = ".".join(part for part in path if part.replace("_", "").isalnum() and part not in _UNION_BRANCHES)
            words = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            expected.setdefault(key, []).append(_EXPECTED.get(problem["type"], words))
            received[key] = _shown(problem["input"])
    for key, alternatives in expected.items():
        wanted = " or ".join(dict.fromkeys(alternatives))
        lines.append(explain(f"{key}: not usable.", received=received[key], expected=wanted))
    return lines


def _unknown(path: list[str]) -> str:
    known = _keys_at(path[:-1])
    return explain(
        f"{'.'.join(path)}: unknown key.",
        expected=f"one of {', '.join(known)}",
        fix=nearest(path[-1], known) or None,
    )


def _shown(value: Any) -> str:
    """A value as a message shows it: not too long, and a list as the recipe wrote it."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys_at(path: list[str]) -> list[str]:
    """The keys that the schema knows in the section at `path`."""
    section: Any = Recipe
    for part in path:
        candidates = [section.model_fields[part].annotation]
        candidates += list(getattr(candidates[0], "__args__", ()))
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return sorted(section.model_fields)
