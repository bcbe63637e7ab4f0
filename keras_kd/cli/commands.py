"""The commands of `keras-kd`: from teacher to phone on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_kd import __version__
from keras_kd.cli import benchmark, cache, check, microcontroller
from keras_kd.cli.exporting import show_exports
from keras_kd.cli.inspecting import show_inspections
from keras_kd.cli.outcome import say, show
from keras_kd.cli.recipe import OutputDir, Overrides, Overwrite, loading, recipe_command
from keras_kd.litert import FORMATS
from keras_kd.recipes import Recipe, compression_recipe, default_text

app = typer.Typer(
    help="Model compression for Keras 3: distill, export to TFLite, measure, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cache.app, name="cache")
app.command()(check.check)
app.command()(microcontroller.microcontroller)
app.command(cls=benchmark.SeveralNumbers)(benchmark.benchmark)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@recipe_command(app, "The run failed.")
def run(recipe: Recipe, console: Console, *, overwrite: bool) -> Callable[[], None]:
    """Train, distill, export, measure and report; resumes an interrupted run."""
    from keras_kd import recipes

    report = recipes.run(recipe, console, overwrite=overwrite)
    return lambda: show(report, recipe.folder, console)


@app.command()
def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained .keras file.")],
    data: Annotated[str, typer.Option(help="The data, as in a recipe: digits, tfds:NAME, folder:PATH or npz:PATH.")],
    steps: Annotated[
        list[str],
        typer.Option(help="Techniques in order: 'pruning:sparsity=0.8,epochs=10; clustering:clusters=16,epochs=3'."),
    ],
    teacher: Annotated[
        str | None, typer.Option(help="A trained teacher. Default: the model before compression.")
    ] = None,
    overrides: Overrides = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
) -> None:
    """Compress a trained model step by step, export, measure and report; resumes an interrupted run."""
    console, options = Console(), {"teacher": teacher, "overrides": overrides or (), "output_dir": output_dir}
    with loading(lambda: compression_recipe(model, data, steps, **options), "The compression failed.") as recipe:
        from keras_kd import recipes

        report = recipes.run(recipe, console, overwrite=overwrite)
    show(report, recipe.folder, console)


Formats = Annotated[list[str], typer.Option("--format", help=f"{', '.join(FORMATS)}; may be repeated.")]


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained .keras file.")],
    formats: Formats = ["float32"],  # noqa: B006  typer copies it
    mixed: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FORMAT", help="A format for an operator or layer of one more, int8 file; may be repeated."
        ),
    ] = [],  # noqa: B006
    data: Annotated[
        str | None, typer.Option(help="Calibration data and labels: digits, tfds:NAME, folder:PATH or npz:PATH.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The folder of the files. Default: that of MODEL.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize images to this size. Default: the model's.")] = None,
    value_range: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="The values of black and white for the model.")
    ] = (0.0, 1.0),
    samples: Annotated[int, typer.Option(help="The number of calibration samples.")] = 200,
    batch_size: Annotated[int, typer.Option(min=0, help="Of the files; 0 for any number of examples.")] = 1,
    preprocess: Annotated[
        str | None, typer.Option(help="'pixels': the files take pixels from 0 to 255 and scale them to --value-range.")
    ] = None,
    postprocess: Annotated[
        str | None,
        typer.Option(help="'softmax' or 'argmax': the files return probabilities, or the number of a class."),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Also write the smallest file whose accuracy drops by at most so many points on --data."
        ),
    ] = None,
) -> None:
    """Export a trained model to checked .tflite files."""
    options = {"data": data, "folder": output_dir, "image_size": image_size, "value_range": value_range}
    options |= {"preprocess": preprocess, "postprocess": postprocess, "max_accuracy_drop": max_accuracy_drop}
    show_exports(model, formats, mixed, num_samples=samples, batch_size=batch_size or None, **options)


@recipe_command(app, "The teacher could not be diagnosed.")
def diagnose(recipe: Recipe, console: Console, *, overwrite: bool) -> Callable[[], None]:
    """Diagnose the teacher of a recipe and report any problems; trains it first if needed."""
    from keras_kd import recipes

    diagnosis = recipes.diagnose_teacher(recipe, console, overwrite=overwrite)
    return lambda: say(console, f"{diagnosis}\nCalibration plot: {recipe.folder / 'teacher_reliability.svg'}")


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="LiteRT (.tflite) files.")],
    operators: Annotated[bool, typer.Option(help="List every operator.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, a line of JSON for each file.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a picture of the main graph; takes a single FILE.")] = None,
) -> None:
    """Show what LiteRT files contain: operators, shapes, quantization, multiply-adds and bytes."""
    if svg is not None and len(files) > 1:
        raise typer.BadParameter("It takes a single FILE.", param_hint="--svg")
    show_inspections(files, operators=operators, as_json=as_json, picture=svg)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    problem = None
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_text())
    except FileExistsError:
        problem = f"{path} already exists; use --force to overwrite it."
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror}."
    if problem is not None:
        typer.echo(problem, err=True)
        raise typer.Exit(2)
    typer.echo(f"Wrote {path}. Run it with: keras-kd run {shlex.quote(str(path))}")
