"""`keras-kd cache`: build and inspect the cache of teacher outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_kd.cli.outcome import failing_cleanly, is_explained, say
from keras_kd.cli.quiet import quiet_natives
from keras_kd.cli.recipe import recipe_command
from keras_kd.recipes import Recipe

app = typer.Typer(help="Build and inspect the cache of teacher outputs.", no_args_is_help=True)


_WITH_CACHE = Annotated[Path, typer.Argument(help="A recipe file with a `cache:` section.")]


@recipe_command(app, "The cache was not built.", _WITH_CACHE)
def build(
    recipe: Recipe,
    console: Console,
    *,
    overwrite: bool,
    shard: Annotated[int, typer.Option(help="The index of this process's share of the work, from 0.")] = 0,
    num_shards: Annotated[int, typer.Option(help="The number of processes or machines that share the work.")] = 1,
) -> Callable[[], None]:
    """Build the cache of a recipe's teacher or resume building it; trains the teacher first if needed."""
    from keras_kd import recipes

    path = recipes.build_cache(recipe, console, shard=shard, num_shards=num_shards, overwrite=overwrite)
    what = "complete" if num_shards == 1 else f"share {shard} of {num_shards} is complete"
    return lambda: say(console, f"{path}: {what}.")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="The cache folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the contents, teacher, data and completeness of a cache."""
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
def verify(path: Annotated[Path, typer.Argument(help="The cache folder.")]) -> None:
    """Read every shard and compare its checksum."""
    with failing_cleanly(Console(stderr=True), "This cache is damaged or incomplete."), quiet_natives(is_explained):
        from keras_kd.teachers import CachedTeacher

        described = CachedTeacher.open(path, progress=True).describe()
    say(Console(), f"{path}: all {described['shards']} shards are intact.")
