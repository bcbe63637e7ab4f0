"""The recipe that compresses a trained model, from the arguments of `keras-kd compress`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_kd.errors import RecipeError, explain
from keras_kd.recipes.reading.loading import validated
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.recipes.reading.yaml_text import parse, printable

_EXAMPLE = "'pruning:sparsity=0.8,epochs=10; clustering:clusters=16,epochs=3'"


def compression_recipe(
    model: str | Path,
    data: str,
    steps: Iterable[str],
    *,
    teacher: str | Path | None = None,
    overrides: Iterable[str] = (),
    output_dir: str | Path | None = None,
) -> Recipe:
    """The recipe of a run that compresses a trained model.

    Args:
        model: a `.keras` file.
        data: as `data.source` in a recipe: `digits`, `tfds:NAME`, `folder:PATH` or `npz:PATH`.
        steps: the techniques in order, as `parse_steps` reads them.
        teacher: what `teacher.model` accepts; None means the model itself, before it is compressed.
        overrides, output_dir: see `load`. The default folder is `saved_models/MODEL-compressed`.

    Raises:
        RecipeError: the file is missing or not a `.keras` file, or a step or an override is invalid.
    """
    file = Path(model)
    if file.suffix != ".keras" or not file.is_file():
        problem = "no such file" if file.suffix == ".keras" else "not a .keras file"
        received, expected = printable(str(model)), "a trained model, as model.save('NAME.keras') writes it"
        raise RecipeError(explain(f"MODEL: {problem}.", received=received, expected=expected))
    settings = {
        "name": re.sub(r"[^\w.-]", "_", f"{file.stem}-compressed").lstrip(".-"),
        "data": {"source": data},
        "teacher": {"model": str(teacher or model)},
        "student": {"model": str(model), "epochs": None},
        "compress": [step for text in steps for step in parse_steps(text)],
    }
    return validated(settings, overrides, output_dir=output_dir)


def parse_steps(text: str) -> list[dict[str, Any]]:
    """The items of `compress`, from a compact text or from YAML.

    >>> parse_steps("pruning:pattern=2:4,epochs=10; clustering:clusters=16,epochs=3")[0]
    {'name': 'pruning', 'pattern': '2:4', 'epochs': 10}
    >>> parse_steps("{name: pruning, sparsity: 0.8, epochs: 10}")
    [{'name': 'pruning', 'sparsity': 0.8, 'epochs': 10}]
    """
    if text.lstrip().startswith(("{", "[")):
        found = parse(text, "--steps is not valid YAML")
        return found if isinstance(found, list) else [found]
    return [_step(part.strip()) for part in text.split(";") if part.strip()]


def _step(text: str) -> dict[str, Any]:
    name, _, settings = text.partition(":")
    step: dict[str, Any] = {"name": name.strip()}
    for setting in filter(None, (part.strip() for part in settings.split(","))):
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or not key or key in step:
            problem = f"{printable(key)} is given twice" if key in step else "invalid setting"
            raise RecipeError(explain(f"--steps: {problem}.", received=printable(text), expected=_EXAMPLE))
        step[key] = _value(value)
    return step


def _value(text: str) -> Any:
    """A number, `true` or `false`, or a text; `2:4` stays one, while YAML would read it as a time."""
    is_plain = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|true|false|null", text)
    return parse(text, "--steps: invalid value") if is_plain else text
