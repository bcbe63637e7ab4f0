"""The commands of `keras-kd`: from teacher to phone on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_kd import __version__
from keras_kd.cli import cache
from keras_kd.cli.outcome import say, show
from keras_kd.cli.recipe import OptionalRecipe, OutputDir, Overrides, Overwrite, loaded
from keras_kd.recipes import default_text

app = typer.Typer(
    help="Model compression for Keras 3: distil, export to TFLite, measure, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cache.app, name="cache")


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def run(
    recipe: OptionalRecipe = None,
    overrides: Overrides = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
) -> None:
    """Train, distil, export and report; a run that was interrupted goes on where it stopped."""
    console = Console()
    with loaded(recipe, overrides, output_dir, "The run failed.") as work:
        from keras_kd import recipes

        report = recipes.run(work, console, overwrite=overwrite)
    show(report, work.folder, console)


@app.command()
def diagnose(
    recipe: OptionalRecipe = None,
    overrides: Overrides = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
) -> None:
    """Train the teacher of a recipe where it is not trained yet, and say whether it is fit to teach."""
    console = Console()
    headline = "The teacher could not be diagnosed."
    with loaded(recipe, overrides, output_dir, headline) as work:
        from keras_kd import recipes

        diagnosis = recipes.diagnose_teacher(work, console, overwrite=overwrite)
    say(console, str(diagnosis))
    say(console, f"The calibration as a picture: {work.folder / 'teacher_reliability.svg'}")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    problem = None
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_text())
    except FileExistsError:
        problem = f"{path} is there already; --force overwrites it."
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror}."
    if problem is not None:
        typer.echo(problem, err=True)
        raise typer.Exit(2)
    typer.echo(f"Wrote {path}. Run it with: keras-kd run {path}")
