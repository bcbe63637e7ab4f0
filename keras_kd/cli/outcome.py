"""What is printed at the end of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from keras_kd.evaluation.report import Report, table


def show(report: Report, folder: Path, console: Console) -> None:
    """The table, the sentences, and where the files are."""
    console.print()
    console.print(table(report))
    for sentence in report.summary or ():
        console.print(f"• {sentence}", highlight=False)
    console.print(f"\nFiles: {folder}    Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
