"""Progress of long work: a bar on a terminal, a line once a minute in a file."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from keras_kd import interruption

SECONDS_BETWEEN_LINES = 60.0


def shows_bars(console: Any) -> bool:
    """Whether a `rich` console can overwrite its output: not in a file, a pipe or a dumb terminal."""
    return console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)


@dataclasses.dataclass
class _Work:
    name: str
    total: int | None
    done: int
    start: float
    note: str = ""

    def __str__(self) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.name}: {self.done:,}{'' if self.total is None else f' of {self.total:,}'}{note}"


class Lines:
    """Progress as plain text: a line when a task is finished, and one per minute while it runs.

    The first line is printed at the start, to show that the run is alive.
    """

    def __init__(self, console: Any):
        self._console = console
        self._works: list[_Work] = []
        self._last_line = -float("inf")

    def start(self) -> None:
        """Does nothing; exists because a bar must be started and stopped."""

    stop = start

    def say(self, text: str) -> None:
        """Prints a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def add(self, name: str, total: int | None, done: int, start: float | None = None) -> int:
        """Adds a task of `total` steps, started at `start` (`time.monotonic`) or now; returns its number."""
        self._works.append(_Work(name, total, done, start=time.monotonic() if start is None else start))
        self.tick(len(self._works) - 1)
        return len(self._works) - 1

    def advance(self, number: int, steps: int, note: str | None = None) -> None:
        """Counts finished steps of a task."""
        work = self._works[number]
        work.done += steps
        work.note = work.note if note is None else note
        self.tick(number)

    def tick(self, number: int) -> None:
        """Prints the line of this minute if it is due."""
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self.say(str(self._works[number]))

    def finish(self, number: int) -> None:
        """Marks a task as done."""
        work = self._works[number]
        work.done = work.done if work.total is None else work.total
        self.say(f"{work}, {time.monotonic() - work.start:,.0f} s")


@contextlib.contextmanager
def bar(
    name: str,
    total: int | None,
    *,
    done: int = 0,
    unit: str = "examples",
    shown: bool = True,
    after_seconds: float = 0.0,
) -> Iterator[Callable]:
    """A bar of `total` steps with rate and remaining time; yields the function `advance(steps)`.

    In a file, prints one line per minute and one at the end.

    Args:
        total: the number of steps; None if it is unknown.
        done: steps completed before the start; they do not count toward the rate.
        shown: whether to show anything.
        after_seconds: the bar appears after this time, so that shorter work shows none.
    """
    if not shown:
        yield lambda steps=1: interruption.check()
        return
    from rich.console import Console

    console = Console()
    begin, advance_shown, skipped = time.monotonic(), None, 0
    work = _bar(console, name, total, done, unit) if shows_bars(console) else _lines(console, name, total, done, begin)
    with contextlib.ExitStack() as stack:

        def advance(steps=1):
            nonlocal advance_shown, skipped
            interruption.check()
            skipped += steps
            if advance_shown is None and time.monotonic() - begin >= after_seconds:
                advance_shown = stack.enter_context(work)
            if advance_shown is not None:
                advance_shown(skipped)
                skipped = 0

        if not after_seconds:
            advance(0)
        yield advance


@contextlib.contextmanager
def _lines(console: Any, name: str, total: int | None, done: int, start: float) -> Iterator[Callable[[int], None]]:
    lines = Lines(console)
    number = lines.add(name, total, done, start)
    yield lambda steps: lines.advance(number, steps)
    lines.finish(number)


@contextlib.contextmanager
def _bar(console: Any, name: str, total: int | None, done: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text("" if task.speed is None else f"{task.speed:,.0f} {unit}/s", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), Rate())
    finished = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    with Progress(*columns, finished, console=console) as progress:
        task = progress.add_task(name, total=total, completed=done)
        yield lambda steps: progress.update(task, advance=steps)
