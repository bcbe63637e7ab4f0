"""`keras-kd check`: which operators of a LiteRT file the delegates of phones run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_kd.cli.outcome import is_explained, say
from keras_kd.cli.quiet import quiet_natives
from keras_kd.errors import KerasKDError

if TYPE_CHECKING:
    from keras_kd.export.delegates import DelegateCheck
    from keras_kd.litert import GpuRun

_ALL = "all"
_WHOLE, _FALLBACK, _UNREADABLE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What is known about one file: checks, or an error."""

    file: Path
    checks: tuple[DelegateCheck, ...] = ()
    gpu: GpuRun | None = None
    error: str = ""

    @property
    def exit_code(self) -> int:
        if self.error:
            return _UNREADABLE
        is_whole = all(check.is_whole for check in self.checks) and (self.gpu is None or self.gpu.is_whole)
        return _WHOLE if is_whole else _FALLBACK

    def to_dict(self) -> dict[str, Any]:
        if self.error:
            return {"file": str(self.file), "error": self.error}
        ran = {} if self.gpu is None else {"gpu_run": dataclasses.asdict(self.gpu)}
        return {"file": str(self.file), "checks": [check.to_dict() for check in self.checks]} | ran


def check(
    files: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="LiteRT (.tflite) files.")],
    delegate: Annotated[str, typer.Option(help="gpu, edgetpu, xnnpack, nnapi, coreml, qnn, hexagon or all.")] = _ALL,
    run: Annotated[bool, typer.Option("--run", help="Also load the file on this machine's GPU.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check which operators a phone's delegates run; exit code 1 on a fallback, 2 on an unreadable file."""
    console, errors = Console(), Console(stderr=True)
    with quiet_natives(is_explained):
        from keras_kd.export.delegates import DELEGATES

        names = DELEGATES if delegate == _ALL else (delegate,)
        problem = _problem(delegate, DELEGATES, runs_gpu=run)
        answers = [] if problem else [_answer(file, names, runs_gpu=run) for file in files]
    if problem:
        say(errors, problem)
        raise typer.Exit(_UNREADABLE)
    if as_json:
        typer.echo(json.dumps([answer.to_dict() for answer in answers], indent=1))
    for answer in answers:
        if answer.error:
            say(errors, f"{answer.file}: {answer.error}")
        elif not as_json:
            _show(console, answer)
    raise typer.Exit(max(answer.exit_code for answer in answers))


def _problem(delegate: str, known: tuple[str, ...], *, runs_gpu: bool) -> str:
    if delegate not in (*known, _ALL):
        return f"Invalid '--delegate'. Received: {delegate!r}. Expected: {', '.join((*known, _ALL))}."
    if runs_gpu and delegate not in ("gpu", _ALL):
        return "'--run' loads the file on a GPU: use it with --delegate gpu or all."
    return ""


def _answer(file: Path, names: tuple[str, ...], *, runs_gpu: bool) -> _Answer:
    from keras_kd.export.delegates import check_delegate
    from keras_kd.litert import read_file, run_on_gpu

    try:
        content = read_file(file)
        checks = tuple(check_delegate(content, name) for name in names)
        return _Answer(file, checks, run_on_gpu(content.content) if runs_gpu else None)
    except KerasKDError as error:
        return _Answer(file, error=str(error))


def _show(console: Console, answer: _Answer) -> None:
    say(console, f"\n{answer.file}")
    console.print(_table(answer.checks))
    for one in answer.checks:
        say(console, str(one))
    if answer.gpu is not None:
        say(console, str(answer.gpu))


def _table(checks: tuple[DelegateCheck, ...]) -> Table:
    table = Table("delegate", "known", "operators", "subgraphs", "takes the file")
    for one in checks:
        taken = f"{one.num_taken} of {len(one.operators)}"
        answer = "whole" if one.is_whole else "in part" if one.num_taken else "no"
        table.add_row(one.title, one.basis, taken, str(one.num_partitions), answer)
    return table
