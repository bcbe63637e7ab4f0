"""What a person sees during a run: on a terminal a bar per stage, in a file a line per stage and per minute."""

from __future__ import annotations

import contextlib
import time
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

from keras_kd import interruption
from keras_kd.callbacks import Resume
from keras_kd.progress import Lines, shows_bars

_SHORT_EPOCH_SECONDS = 2.0


class RunProgress:
    """The stages of a run on one console."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._bars: Bars | Lines = Bars(self.console) if shows_bars(self.console) else Lines(self.console)

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._bars.say(text)

    @contextlib.contextmanager
    def stage(self, name: str, total: int = 1, done: int = 0) -> Iterator[Stage]:
        """A stage of `total` steps, `done` of them before the start; all are done at the end."""
        interruption.check()
        task = self._bars.add(name, total, done)
        try:
            yield Stage(self._bars, task)
        finally:
            interruption.release()
        interruption.check()
        self._bars.finish(task)


class Bars:
    """A bar per stage."""

    def __init__(self, console: Console):
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self.start, self.stop = self._progress.start, self._progress.stop

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def add(self, name: str, total: int, done: int) -> int:
        return self._progress.add_task(name, total=total, completed=done, note="")

    def advance(self, task: int, steps: int, note: str | None) -> None:
        self._progress.update(task, advance=steps, **({} if note is None else {"note": note}))

    def tick(self, task: int) -> None:
        """A bar moves by itself."""

    def finish(self, task: int) -> None:
        self._progress.update(task, completed=self._progress.tasks[task].total)


class Stage:
    """One stage; each step of it is a moment at which Ctrl-C ends the run."""

    def __init__(self, bars: Bars | Lines, task: int):
        self._bars = bars
        self._task = task

    def advance(self, note: str = "", steps: int = 1, *, check: bool = True) -> None:
        """Some steps are done; `note` says what came out. Without `check` the caller looks for Ctrl-C."""
        self._bars.advance(self._task, steps, note)
        if check:
            interruption.check()

    def note(self, text: str) -> None:
        """What is being done."""
        self._bars.advance(self._task, 0, text)
        interruption.check()

    def tick(self) -> None:
        """Still at work, between two steps."""
        self._bars.tick(self._task)


class EpochProgress(keras.callbacks.Callback):
    """Moves a stage by an epoch at a time, and ends the training at Ctrl-C, between two batches.

    Where epochs are short, the one in progress is finished and saved by `resume` first.
    """

    def __init__(self, stage: Stage, resume: Resume | None = None):
        super().__init__()
        self._stage = stage
        self._resume = resume
        self._epoch_start = self._epoch_seconds = float("inf")

    def on_train_begin(self, logs=None):
        interruption.hold()

    def on_train_end(self, logs=None):
        interruption.release()
        interruption.check()

    def on_epoch_begin(self, epoch, logs=None):
        interruption.check()  # not where the epoch before it ended: `resume`, the last callback, had to save it first
        self._epoch_start = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        self._stage.tick()
        if self._resume is None or self._epoch_seconds > _SHORT_EPOCH_SECONDS:
            interruption.check()

    def on_train_batch_end(self, batch, logs=None):
        if self._resume is not None and interruption.is_pressed():
            self._resume.every_seconds = 0.0  # saves at the end of this epoch, if that comes

    def on_test_batch_begin(self, batch, logs=None):
        self.on_train_batch_begin(batch)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch_seconds = time.monotonic() - self._epoch_start
        accuracy = (logs or {}).get("val_accuracy")
        self._stage.advance("" if accuracy is None else f"validation {accuracy:.1%}", check=False)
