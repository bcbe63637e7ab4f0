"""What every command that works on a recipe takes, and how it starts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from keras_kd.cli.outcome import failing_cleanly
from keras_kd.cli.quiet import quiet_natives, touch_backend
from keras_kd.errors import KerasKDError

if TYPE_CHECKING:
    from keras_kd.recipes import Recipe

OptionalRecipe = Annotated[Path | None, typer.Argument(help="A recipe file. Default: the digits of scikit-learn.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: student.epochs=5")
]
OutputDir = Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")]


@contextlib.contextmanager
def loaded(path: Path | None, overrides: list[str] | None, output_dir: Path | None, headline: str) -> Iterator[Recipe]:
    """The recipe, for work in which native libraries are quiet and what fails on purpose ends the command.

    `headline` is what the command says first where the work fails.
    """
    errors = Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where `module:function` of a recipe is looked for, after what is installed
    with failing_cleanly(errors, headline), quiet_natives(KerasKDError):
        with errors.status("loading TensorFlow"):
            from keras_kd import recipes

            recipe = recipes.load(path, overrides or (), output_dir=output_dir)
            touch_backend()
        yield recipe
