"""What every command that works on a recipe takes, and how it starts."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_kd import check_keras
from keras_kd.cli.interrupts import working
from keras_kd.cli.outcome import failing_cleanly, is_explained
from keras_kd.cli.quiet import quiet_natives, touch_backend
from keras_kd.recipes import Recipe, load
from keras_kd.recipes.reading.names import check_names

OptionalRecipe = Annotated[Path | None, typer.Argument(help="A recipe file. Default: the digits of scikit-learn.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: student.epochs=5")
]
OutputDir = Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of another recipe in the folder.")]


_KEPT = (".state/**/*.json", "teacher_cache/**/*.npy")  # stamps, states of trainings, shards


@contextlib.contextmanager
def loaded(path: Path | None, overrides: list[str] | None, output_dir: Path | None, headline: str) -> Iterator[Recipe]:
    """The recipe, for work in which native libraries are quiet and what fails on purpose ends the command.

    What can be said about the recipe without Keras and its backend is said before they are loaded, which takes seconds.
    `headline` is what the command says first where the work fails.
    """
    errors = Console(stderr=True)
    recipe: Recipe | None = None

    def is_kept() -> bool:
        return recipe is not None and any(any(recipe.folder.glob(pattern)) for pattern in _KEPT)

    sys.path.append(str(Path.cwd()))  # where `module:function` of a recipe is looked for, after what is installed
    with failing_cleanly(errors, headline, is_kept):
        recipe = load(path, overrides or (), output_dir=output_dir)
        check_names(recipe)
        with quiet_natives(is_explained):
            with errors.status("loading TensorFlow"):
                check_keras()
                importlib.import_module("keras_kd.recipes.runs")
                touch_backend()
            with working():
                yield recipe
