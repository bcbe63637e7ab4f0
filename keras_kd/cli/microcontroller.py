"""`keras-kd microcontroller`: the C++ sources of a LiteRT file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_kd.cli.outcome import is_explained, say
from keras_kd.cli.quiet import quiet_natives
from keras_kd.errors import KerasKDError


def microcontroller(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A LiteRT (.tflite) file.")],
    output_dir: Annotated[Path | None, typer.Option(help="The folder of the sources. Default: that of MODEL.")] = None,
) -> None:
    """Write a file as C++ for LiteRT for Microcontrollers; exit code 2 if it cannot run there."""
    with quiet_natives(is_explained):
        from keras_kd.export import microcontroller_sources

        try:
            text, code = str(microcontroller_sources(model, output_dir or model.parent)), 0
        except KerasKDError as error:
            text, code = str(error), 2
        except OSError as error:
            text, code = f"The sources cannot be written: {error.strerror}: {error.filename}.", 1
    say(Console(stderr=bool(code)), text)
    raise typer.Exit(code)
