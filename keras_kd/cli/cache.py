"""`keras-kd cache`: the teacher's answers on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_kd.cli.outcome import failing_cleanly, say
from keras_kd.cli.quiet import quiet_natives, touch_backend
from keras_kd.errors import KerasKDError

app = typer.Typer(help="Ask the teacher once and keep its answers.", no_args_is_help=True)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="A recipe file with a `cache:` section.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: cache.views=8")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run folder. Default: saved_models/NAME.")] = None,
    shard: Annotated[int, typer.Option(help="Which share of the work this process does, from 0.")] = 0,
    num_shards: Annotated[int, typer.Option(help="How many processes or machines share the work.")] = 1,
) -> None:
    """Train the teacher of a recipe where it is not trained yet, and build its cache or go on with it."""
    errors = Console(stderr=True)
    sys.path.append(str(Path.cwd()))  # where `module:function` of a recipe is looked for, after what is installed
    with failing_cleanly(errors, "The cache was not built; the same command goes on from here."):
        with quiet_natives(KerasKDError):
            with errors.status("loading TensorFlow"):
                from keras_kd import recipes

                loaded = recipes.load(recipe, overrides or (), output_dir=output_dir)
                touch_backend()
            path = recipes.build_cache(loaded, Console(), shard=shard, num_shards=num_shards)
    say(Console(), f"{path}: {'complete' if num_shards == 1 else f'share {shard} of {num_shards} is complete'}.")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="The folder of a cache.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """What a cache holds, of which teacher and data, and how much of it is there."""
    with failing_cleanly(Console(stderr=True), "This cache cannot be read."), quiet_natives(KerasKDError):
        from keras_kd.teachers.store import Store

        described = Store.read(path).describe()
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    table = Table("what", "value", show_header=False)
    for key, value in described.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="The folder of a cache.")]) -> None:
    """Read every shard and compare its checksum."""
    with failing_cleanly(Console(stderr=True), "This cache must not be used as it is."), quiet_natives(KerasKDError):
        from keras_kd.teachers import CachedTeacher

        described = CachedTeacher.open(path, progress=True).describe()
    say(Console(), f"{path}: all {described['shards']} shards are whole.")
