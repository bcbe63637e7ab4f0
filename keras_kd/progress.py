"""One bar for one long piece of work: how far, how fast, how long still."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


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
    """A bar of `total` steps with rate and remaining time; gives the function `advance(steps)`.

    Args:
        total: how many steps; None where nobody knows.
        done: steps that were done before the start; they do not count for the rate.
        shown: without, nothing is shown.
        after_seconds: what is done by then needs no bar.
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
    progress = Progress(*columns, TimeRemainingColumn(compact=True, elapsed_when_finished=True))
    task = progress.add_task(name, total=total, completed=done)
    begin, is_shown = time.monotonic(), False
    with contextlib.ExitStack() as stack:

        def advance(steps=1):
            nonlocal is_shown
            progress.update(task, advance=steps)
            if not is_shown and time.monotonic() - begin >= after_seconds:
                stack.enter_context(progress)
                is_shown = True

        if not after_seconds:
            advance(0)
        yield advance
