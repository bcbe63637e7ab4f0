"""Progress of a run: on a terminal, a bar per stage; in a file, a line per stage and one per minute."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import keras

from keras_kd import interruption
from keras_kd.callbacks import Resume
from keras_kd.progress import Lines, shows_bars

_SHORT_EPOCH_SECONDS = 2.0


class RunProgress:
    """The stages of a run on one console.

    Args:
        console: where they are shown; None means standard output.
        shown: whether to show anything.
    """

    def __init__(self, console: Any = None, *, shown: bool = True):
        self._bars = _display(console) if shown else Nothing()

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Prints a permanent line."""
        self._bars.say(text)

    @contextlib.contextmanager
    def stage(self, name: str, total: int = 1, done: int = 0) -> Iterator[StageProgress]:
        """Shows a stage of `total` steps, `done` of which were completed before; marks it complete at the end."""
        interruption.check()
        task = self._bars.add(name, total, done)
        try:
            yield StageProgress(self._bars, task)
        finally:
            interruption.release()
        interruption.check()
        self._bars.finish(task)


def _display(console: Any) -> Bars | Lines:
    from rich.console import Console

    console = console or Console()
    return Bars(console) if shows_bars(console) else Lines(console)


class Nothing:
    """No output."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def say(self, text: str) -> None: ...

    def add(self, name: str, total: int, done: int) -> int:
        return 0

    def advance(self, task: int, steps: int, note: str | None) -> None: ...

    def tick(self, task: int) -> None: ...

    def finish(self, task: int) -> None: ...


class Bars:
    """A bar per stage."""

    def __init__(self, console: Any):
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

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
        """Does nothing: the spinner moves by itself."""

    def finish(self, task: int) -> None:
        self._progress.update(task, completed=self._progress.tasks[task].total)


class StageProgress:
    """The progress of one stage. After Ctrl-C, the next step ends the run."""

    def __init__(self, bars: Bars | Lines | Nothing, task: int):
        self._bars = bars
        self._task = task

    def advance(self, note: str = "", steps: int = 1, *, check: bool = True) -> None:
        """Counts finished steps and shows `note`. Without `check`, the caller checks for Ctrl-C."""
        self._bars.advance(self._task, steps, note)
        if check:
            interruption.check()

    def note(self, text: str) -> None:
        """Shows a note next to the progress."""
        self._bars.advance(self._task, 0, text)
        interruption.check()

    def tick(self) -> None:
        """Called between two steps, so that a line per minute can be printed."""
        self._bars.tick(self._task)


class EpochProgress(keras.callbacks.Callback):
    """Advances a stage by one step per epoch; after Ctrl-C, ends the training between two batches.

    A short epoch in progress is completed first, and saved by `resume`.
    """

    def __init__(self, stage: StageProgress, resume: Resume | None = None):
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
        interruption.check()  # not in on_epoch_end: `resume`, the last callback, has to save the epoch first
        self._epoch_start = time.monotonic()

    def on_train_batch_begin(self, batch, logs=None):
        self._stage.tick()
        if self._resume is None or self._epoch_seconds > _SHORT_EPOCH_SECONDS:
            interruption.check()

    def on_train_batch_end(self, batch, logs=None):
        if self._resume is not None and interruption.is_pressed():
            self._resume.every_seconds = 0.0  # saves at the end of this epoch, if it is reached

    def on_test_batch_begin(self, batch, logs=None):
        self.on_train_batch_begin(batch)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch_seconds = time.monotonic() - self._epoch_start
        self._stage.advance(_validation(logs or {}), check=False)


def _validation(logs: dict[str, float]) -> str:
    """The accuracy on the validation data: of the model, its main output, or the best of its outputs.

    >>> _validation({"val_accuracy": 0.5}), _validation({"val_a_accuracy": 0.5, "val_b_accuracy": 0.75})
    ('validation 50.0%', 'validation 75.0% (the best of 2)')
    """
    for name in ("val_accuracy", "val_output_accuracy"):
        if name in logs:
            return f"validation {logs[name]:.1%}"
    found = [value for name, value in logs.items() if name.startswith("val_") and name.endswith("_accuracy")]
    return f"validation {max(found):.1%} (the best of {len(found)})" if found else ""
