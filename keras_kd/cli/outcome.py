"""What is printed at the end of a command, and how it ends where it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from keras_kd.errors import KerasKDError, RecipeError


@contextlib.contextmanager
def failing_cleanly(errors: Console, headline: str) -> Iterator[None]:
    """Turns what goes wrong on purpose into a message and an exit code: 2 recipe, 1 other, 130 interrupted."""
    try:
        yield
    except RecipeError as error:
        _fail(errors, "This recipe cannot be run.", error)
        raise typer.Exit(2) from None
    except KerasKDError as error:
        _fail(errors, headline, error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        errors.print("\nInterrupted; the same command goes on from here.")
        raise typer.Exit(130) from None


def say(console: Console, text: str) -> None:
    """A line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(report, folder: Path, console: Console) -> None:
    """The table, the sentences, and where the files are."""
    from keras_kd.evaluation.report import table

    console.print()
    console.print(table(report))
    for sentence in report.summary or ():
        console.print(f"• {sentence}", highlight=False)
    console.print(f"\nFiles: {folder}    Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _fail(console: Console, headline: str, error: Exception) -> None:
    console.print(f"[red]{headline}[/red]")
    say(console, str(error))
