"""The options shared by all commands on a recipe, and the start of such a command."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console

from keras_kd import check_keras
from keras_kd.cli.interrupts import working
from keras_kd.cli.outcome import failing_cleanly, is_explained
from keras_kd.cli.quiet import initialize_backend, quiet_natives
from keras_kd.recipes import Recipe, load
from keras_kd.recipes.reading.names import check_names

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: student.epochs=5")
]
OutputDir = Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")]
_PARAMETERS = {"overrides": Overrides, "output_dir": OutputDir}
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of another recipe in the folder.")]
_OPTIONAL = Annotated[Path | None, typer.Argument(help="A recipe file. Default: the digits of scikit-learn.")]


def recipe_command(app: typer.Typer, headline: str, recipe: Any = _OPTIONAL) -> Callable[[Callable], Callable]:
    """Registers a function as a command on a recipe, with the options shared by all such commands.

    The function takes the recipe, the console, `overwrite` and its own options. It returns a function that prints the
    result and is called when native libraries may write to the terminal again.

    Args:
        app: the app to which the command is added.
        headline: the first line of the message if the work fails.
        recipe: the annotation of the argument for the recipe's file.
    """

    def registered(work: Callable[..., Callable[[], None]]) -> Callable:
        hints = get_type_hints(work, include_extras=True)
        own = [
            p for p in inspect.signature(work).parameters.values() if p.name not in ("recipe", "console", "overwrite")
        ]

        def command(recipe=None, overrides=None, output_dir=None, overwrite=False, **options):
            console = Console()
            with loading(lambda: load(recipe, overrides or (), output_dir=output_dir), headline) as checked:
                show_result = work(checked, console, overwrite=overwrite, **options)
            show_result()

        shared = [("recipe", recipe, _default(recipe))]
        shared += [(name, kind, None) for name, kind in _PARAMETERS.items()]
        shared += [(option.name, hints[option.name], option.default) for option in own] + [
            ("overwrite", Overwrite, False)
        ]
        command.__signature__ = inspect.Signature(
            [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=d) for n, kind, d in shared]
        )
        command.__annotations__ = {name: kind for name, kind, _ in shared}
        command.__doc__ = work.__doc__
        app.command(work.__name__)(command)
        return work

    return registered


def _default(recipe: Any) -> Any:
    return None if recipe is _OPTIONAL else inspect.Parameter.empty


_KEPT = (".state/**/*.json", "teacher_cache/**/*.npy")  # stamps, states of trainings, shards


@contextlib.contextmanager
def loading(read: Callable[[], Recipe], headline: str) -> Iterator[Recipe]:
    """Yields the recipe that `read` returns, silences native libraries, and exits with a message on expected errors.

    All checks that need neither Keras nor its backend come before these are loaded, which takes seconds.
    `headline` is the first line of the message if the work fails.
    """
    errors = Console(stderr=True)
    recipe: Recipe | None = None

    def is_kept() -> bool:
        return recipe is not None and any(any(recipe.folder.glob(pattern)) for pattern in _KEPT)

    sys.path.append(str(Path.cwd()))  # for `module:function` in a recipe; after installed packages
    with failing_cleanly(errors, headline, is_kept):
        recipe = read()
        check_names(recipe)
        with quiet_natives(is_explained):
            with errors.status("loading TensorFlow"):
                check_keras()
                importlib.import_module("keras_kd.recipes.runs")
                initialize_backend()
            with working():
                yield recipe
