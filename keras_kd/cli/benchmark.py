"""`keras-kd benchmark`: how fast models are here, and the commands to find out on a phone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from keras_kd import check_keras
from keras_kd.cli.interrupts import working
from keras_kd.cli.outcome import failing_cleanly, is_explained, say
from keras_kd.cli.quiet import initialize_backend, quiet_natives
from keras_kd.errors import ConfigurationError

if TYPE_CHECKING:
    from keras_kd.evaluation import Benchmark

_FAILED = 2
_HEADLINE = "Nothing was measured."


class SeveralNumbers(TyperCommand):
    """A command whose option `--threads` takes the numbers that follow it: `--threads 1 2 4`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeat("--threads", args))


def repeat(option: str, arguments: Sequence[str]) -> list[str]:
    """Writes an option in front of each whole number that follows its first one.

    >>> repeat("--threads", ["a.tflite", "--threads", "1", "2", "b.tflite"])
    ['a.tflite', '--threads', '1', '--threads', '2', 'b.tflite']
    """
    result: list[str] = []
    for argument in arguments:
        follows = len(result) > 1 and result[-2] == option and argument.isdecimal()
        result += [option, argument] if follows else [argument]
    return result


def benchmark(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="LiteRT (.tflite) and Keras (.keras) files.")
    ] = None,
    threads: Annotated[list[int], typer.Option(metavar="N...", help="Numbers of CPU threads: --threads 1 2 4.")] = [1],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="How often the models take turns.")] = 5,
    runs: Annotated[int, typer.Option(help="The minimum number of timed runs of each model.")] = 100,
    seconds: Annotated[float, typer.Option(help="The minimum seconds of timed runs of each model.")] = 1.0,
    open_size: Annotated[int, typer.Option(help="The size of open dimensions other than the batch.")] = 1,
    profile: Annotated[bool, typer.Option(help="Show where the time of LiteRT files goes, by operator.")] = True,
    cross_check: Annotated[bool, typer.Option(help="Also run LiteRT's own litert-benchmark.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds for loading a model and its first run.")] = 60.0,
    adb: Annotated[
        bool, typer.Option("--adb", help="Measure nothing; print the commands for an Android phone.")
    ] = False,
    adb_log: Annotated[Path | None, typer.Option(help="Measure nothing; read what the phone printed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure load time, first run, latency, memory and operators of models, each in its own process."""
    options = {"rounds": rounds, "min_runs": runs, "min_seconds": seconds, "open_size": open_size, "profile": profile}
    options |= {"cross_check": cross_check, "timeout_s": timeout, "threads": threads, "progress": not as_json}
    if not files and (adb or adb_log is None):
        raise typer.BadParameter("At least one file is needed.", param_hint="MODEL...")
    files = files or []
    if adb or adb_log is not None:
        _loading(lambda: _show_phone(files, threads, adb_log, commands=adb, open_size=open_size, as_json=as_json))
        return
    found = _loading(lambda: _measure(files, options))
    _show(found, as_json=as_json)
    raise typer.Exit(_FAILED if found.failures else 0)


def _loading(work: Callable[[], Any]) -> Any:
    """Loads Keras, then does the work; exits with a message and code 2 on invalid options."""
    errors = Console(stderr=True)
    try:
        with failing_cleanly(errors, _HEADLINE), quiet_natives(is_explained):
            with errors.status("loading Keras"):
                check_keras()
                initialize_backend()
            import keras_kd.evaluation  # noqa: F401

            with working():
                return work()
    except typer.Exit as error:
        raise typer.Exit(_FAILED if error.exit_code == 1 else error.exit_code) from None


def _measure(files: list[Path], options: dict[str, Any]) -> Benchmark:
    from keras_kd.evaluation import benchmark_models

    return benchmark_models(files, **options)


def _show(found: Benchmark, *, as_json: bool) -> None:
    console, errors = Console(), Console(stderr=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    elif found.speeds:
        say(console, str(found))
    for name, problem in found.failures.items():
        say(errors, problem if problem.startswith(name) else f"{name}: {problem}")


def _show_phone(
    files: list[Path], threads: list[int], log: Path | None, *, commands: bool, open_size: int, as_json: bool
) -> None:
    """Prints the commands of all files, or what the phone said."""
    from keras_kd.evaluation.latency.android import DOWNLOAD, TOOL, android_commands
    from keras_kd.evaluation.latency.android_log import parse_android_log

    console = Console()
    if commands:
        typer.echo("# For a phone with USB debugging. Not tried here: this computer has no phone. The binary, once:")
        typer.echo(f"# curl -O {DOWNLOAD}")
        typer.echo(f"adb push {Path(TOOL).name} {TOOL}\nadb shell chmod +x {TOOL}")
        for file in files:
            runs = [
                android_commands(file, num_threads=number, use_gpu=use_gpu, open_size=open_size)
                for number in threads
                for use_gpu in (False, True)
            ]
            typer.echo("\n".join([runs[0][0], *(run for _, run in runs)]))
    if log is not None:
        try:
            found = parse_android_log(log.read_text(errors="replace"))
        except OSError as error:
            raise ConfigurationError(f"{log} cannot be read: {error.strerror}.") from error
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        for one in () if as_json else found:
            say(console, str(one))
