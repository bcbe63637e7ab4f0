"""Output at the end of a command, and exit codes."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console

from keras_kd import interruption
from keras_kd.cli.interrupts import EXIT_CODE
from keras_kd.errors import KerasKDError, RecipeError, TrainingError

_RESUMES = "Finished work was saved: after fixing this, run the same command to resume."
_NAMES = "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO EMFILE ENFILE ENOMEM ENAMETOOLONG ENOTDIR EISDIR ENXIO"
_SYSTEM_ERRORS = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}


def is_system_error(error: BaseException) -> bool:
    """Whether an error is caused by the system, such as a full disk or missing permissions, rather than by a bug."""
    return isinstance(error, OSError) and (error.errno in _SYSTEM_ERRORS or "No space left" in str(error))


def is_explained(error: BaseException) -> bool:
    """Whether `failing_cleanly` handles an error."""
    return isinstance(error, KerasKDError) or is_system_error(error) or interruption.is_pressed()


@contextlib.contextmanager
def failing_cleanly(
    errors: Console, headline: str, is_kept: Callable[[], bool] = lambda: False, *, code: int = 1
) -> Iterator[None]:
    """Maps expected errors to a message and an exit code: 2 recipe, `code` other errors of ours, 130 interrupted.

    Args:
        errors: where the message goes.
        headline: the first line of the message.
        is_kept: whether finished work exists from which the same command would resume.
        code: the exit code for errors of this package other than those of recipes.
    """
    try:
        yield
    except BaseException as error:
        if interruption.is_pressed() or isinstance(error, KeyboardInterrupt):
            ending = "run the same command to resume." if is_kept() else "nothing was finished yet."
            errors.print(f"\nInterrupted; {ending}")
            raise typer.Exit(EXIT_CODE) from None
        if isinstance(error, RecipeError):
            _fail(errors, 2, "This recipe cannot be run.", str(error))
        if isinstance(error, KerasKDError):
            resumes = is_kept() and not isinstance(error, TrainingError)  # it would diverge again
            _fail(errors, code, headline, str(error), *([_RESUMES] if resumes else []))
        if is_system_error(error):
            _fail(errors, 1, headline, _describe(error), *([_RESUMES] if is_kept() else []))
        raise


def _describe(error: OSError) -> str:
    named = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or str(error).splitlines()[0]}{named}."


def say(console: Console, text: str) -> None:
    """Prints a line unchanged, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(report, folder: Path, console: Console) -> None:
    """Prints the table, the summary, and the location of the files."""
    from keras_kd.evaluation.table import terminal_table

    console.print()
    console.print(terminal_table(report, console.width))
    for sentence in report.summary or ():
        console.print(f"• {sentence}", highlight=False)
    console.print(f"\nFiles: {folder}    Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _fail(console: Console, code: int, headline: str, *lines: str) -> NoReturn:
    console.print(f"[red]{headline}[/red]")
    for line in lines:
        say(console, line)
    raise typer.Exit(code) from None
