"""`keras-kd`: from teacher to phone on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_kd import __version__
from keras_kd.cli import cache
from keras_kd.cli.outcome import failing_cleanly, say, show
from keras_kd.cli.quiet import quiet_natives, touch_backend
from keras_kd.errors import KerasKDError

app = typer.Typer(
    help="Model compression for Keras 3: distil, export to TFLite, measure, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cache.app, name="cache")


def main() -> None:
    """The entry point."""
    app()


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def run(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file. Default: the digits of scikit-learn.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: student.epochs=5")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")] = None,
) -> None:
    """Train, distil, export and report; a run that was interrupted goes on where it stopped."""
    console, errors = Console(), Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where `module:function` of a recipe is looked for, after what is installed
    with failing_cleanly(errors, "The run failed; the same command goes on from here."):
        with quiet_natives(KerasKDError):
            with errors.status("loading TensorFlow"):
                from keras_kd import recipes

                loaded = recipes.load(recipe, overrides or (), output_dir=output_dir)
                touch_backend()
            report = recipes.run(loaded, console)
    show(report, loaded.folder, console)


@app.command()
def diagnose(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file. Default: the digits of scikit-learn.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: teacher.model=t.keras")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")] = None,
) -> None:
    """Train the teacher of a recipe where it is not trained yet, and say whether it is fit to teach."""
    console, errors = Console(), Console(stderr=True)
    sys.path.append(str(Path.cwd()))
    with failing_cleanly(errors, "The teacher could not be looked at; the same command goes on from here."):
        with quiet_natives(KerasKDError):
            with errors.status("loading TensorFlow"):
                from keras_kd import recipes

                loaded = recipes.load(recipe, overrides or (), output_dir=output_dir)
                touch_backend()
            diagnosis = recipes.diagnose_teacher(loaded, console)
    say(console, str(diagnosis))
    say(console, f"The calibration as a picture: {loaded.folder / 'teacher_reliability.svg'}")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    with quiet_natives():
        from keras_kd.recipes import default_text

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
