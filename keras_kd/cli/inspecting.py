"""The output of `keras-kd inspect`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from keras_kd import files
from keras_kd.errors import ConfigurationError
from keras_kd.litert.inspection import Inspection, inspect_tflite


def show_inspections(paths: Sequence[Path], *, operators: bool, as_json: bool, picture: Path | None) -> None:
    """Prints each inspection in order, and writes the picture of the file.

    Raises:
        typer.Exit: with code 2, at the end, if a file could not be read or the picture not be written; each has a
            message on standard error.
    """
    problems = []
    for number, path in enumerate(paths):
        try:
            inspection = inspect_tflite(path)
        except ConfigurationError as error:
            problems.append(str(error))
            continue
        separator = "" if as_json or number == len(problems) else "\n"
        typer.echo(separator + (_line(inspection) if as_json else inspection.text(operators=operators)))
        problems += _write(picture, inspection) if picture else []
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)


def _line(inspection: Inspection) -> str:
    return json.dumps(inspection.as_dict(), allow_nan=False)


def _write(picture: Path, inspection: Inspection) -> list[str]:
    try:
        files.write(picture, inspection.svg())
    except OSError as error:
        return [f"{picture} cannot be written: {error.strerror}."]
    return []
