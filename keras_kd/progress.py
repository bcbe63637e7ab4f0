"""One bar for one long piece of work: how far, how fast, how long still."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(name: str, total: int, *, done: int = 0, unit: str = "examples", shown: bool = True) -> Iterator[Callable]:
    """A bar of `total` steps with rate and remaining time; gives the function `advance(steps)`.

    Args:
        done: steps that were done before the start; they do not count for the rate.
        shown: without, nothing is shown.
    """
    if not shown:
        yield lambda steps=1: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text("" if task.speed is None else f"{task.speed:,.0f} {unit}/s", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), Rate())
    with Progress(*columns, TimeRemainingColumn(compact=True, elapsed_when_finished=True)) as progress:
        task = progress.add_task(name, total=total, completed=done)
        yield lambda steps=1: progress.update(task, advance=steps)
