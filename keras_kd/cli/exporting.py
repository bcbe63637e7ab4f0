"""`keras-kd export`: the files of a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from keras_kd import check_keras
from keras_kd.cli.interrupts import working
from keras_kd.cli.outcome import failing_cleanly, is_explained, say
from keras_kd.cli.quiet import initialize_backend, quiet_natives
from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert.formats import Mixed


def show_exports(model: Path, formats: Sequence[str], mixed: Sequence[str] = (), **options: Any) -> None:
    """Exports a model and prints a line for each file; the options are those of `keras_kd.recipes.export_files`.

    `mixed` are the rules of a further file, each as `OPERATOR_OR_LAYER=FORMAT`.

    A model or option that cannot be exported is exit code 2, as for `keras-kd inspect`.
    """
    console, errors = Console(), Console(stderr=True)
    with failing_cleanly(errors, "The model was not exported.", code=2), quiet_natives(is_explained):
        with errors.status("loading TensorFlow"):
            check_keras()
            initialize_backend()
        from keras_kd.recipes import export_files

        forms, shown = [*formats, *_mixed(mixed)], _Status(errors)
        with working():
            results = export_files(model, forms, progress=shown.update, **options)
            while (result := shown.during(results)) is not None:
                say(console, f"{result}")


def _mixed(rules: Sequence[str]) -> Iterator[Mixed]:
    """The format of these rules; nothing without."""
    pairs = [tuple(rule.rsplit("=", 1)) for rule in rules]
    if wrong := [rule for rule, pair in zip(rules, pairs, strict=True) if len(pair) < 2]:
        expected = "OPERATOR_OR_LAYER=FORMAT, such as 'head=float32'"
        raise ConfigurationError(explain("--mixed: invalid value.", received=repr(wrong[0]), expected=expected))
    if pairs:
        yield Mixed(pairs)


class _Status:
    """A line that says what is being made, which is gone before its result is printed."""

    def __init__(self, console: Console):
        self._console = console

    def during(self, results: Iterator[Any]) -> Any:
        """The next result; None at the end."""
        with self._console.status("export") as self._status:
            return next(results, None)

    def update(self, title: str) -> None:
        self._status.update(f"export {title}")
