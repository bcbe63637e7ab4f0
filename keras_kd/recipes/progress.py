"""What a person sees while a run goes on: a bar per stage, and a line for what was done before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """A bar per stage of a run on one console."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
        )

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._bars.console.print(text, highlight=False)

    @contextlib.contextmanager
    def stage(self, name: str, total: int = 1, done: int = 0) -> Iterator[Stage]:
        """A bar of `total` steps, `done` of them before the start; it is full at the end."""
        task = self._bars.add_task(name, total=total, completed=done, note="")
        yield Stage(self._bars, task)
        self._bars.update(task, completed=total)


class Stage:
    """The bar of one stage."""

    def __init__(self, bars: Progress, task):
        self._bars = bars
        self._task = task

    def advance(self, note: str = "", steps: int = 1) -> None:
        self._bars.update(self._task, advance=steps, note=note)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)


class EpochProgress(keras.callbacks.Callback):
    """Moves the bar of a training by an epoch at a time."""

    def __init__(self, stage: Stage):
        super().__init__()
        self._stage = stage

    def on_epoch_end(self, epoch, logs=None):
        accuracy = (logs or {}).get("val_accuracy")
        self._stage.advance("" if accuracy is None else f"validation {accuracy:.1%}")
