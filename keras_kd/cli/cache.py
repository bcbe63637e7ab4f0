"""`keras-kd cache`: the teacher's answers on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_kd.cli.outcome import failing_cleanly, is_explained, say
from keras_kd.cli.quiet import quiet_natives
from keras_kd.cli.recipe import OutputDir, Overrides, Overwrite, loaded

app = typer.Typer(help="Ask the teacher once and keep its answers.", no_args_is_help=True)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(help="A recipe file with a `cache:` section.")],
    overrides: Overrides = None,
    output_dir: OutputDir = None,
    shard: Annotated[int, typer.Option(help="Which share of the work this process does, from 0.")] = 0,
    num_shards: Annotated[int, typer.Option(help="How many processes or machines share the work.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Train the teacher of a recipe where it is not trained yet, and build its cache or go on with it."""
    headline = "The cache was not built."
    with loaded(recipe, overrides, output_dir, headline) as work:
        from keras_kd import recipes

        path = recipes.build_cache(work, Console(), shard=shard, num_shards=num_shards, overwrite=overwrite)
    say(Console(), f"{path}: {'complete' if num_shards == 1 else f'share {shard} of {num_shards} is complete'}.")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="The folder of a cache.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """What a cache holds, of which teacher and data, and how much of it is there."""
    with failing_cleanly(Console(stderr=True), "This cache cannot be read."), quiet_natives(is_explained):
        from keras_kd.teachers.cache.store import Store

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
    with failing_cleanly(Console(stderr=True), "This cache must not be used as it is."), quiet_natives(is_explained):
        from keras_kd.teachers import CachedTeacher

        described = CachedTeacher.open(path, progress=True).describe()
    say(Console(), f"{path}: all {described['shards']} shards are whole.")
