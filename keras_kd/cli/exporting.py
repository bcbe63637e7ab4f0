"""`keras-kd export`: the files of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from keras_kd import check_keras
from keras_kd.cli.interrupts import working
from keras_kd.cli.outcome import failing_cleanly, is_explained, say
from keras_kd.cli.quiet import initialize_backend, quiet_natives


def show_exports(model: Path, formats: Sequence[str], **options: Any) -> None:
    """Exports a model and prints a line for each file; the options are those of `keras_kd.recipes.export_files`.

    A model or option that cannot be exported is exit code 2, as for `keras-kd inspect`.
    """
    console, errors = Console(), Console(stderr=True)
    with failing_cleanly(errors, "The model was not exported.", code=2), quiet_natives(is_explained):
        with errors.status("loading TensorFlow"):
            check_keras()
            initialize_backend()
        from keras_kd.recipes import export_files

        with working():
            for result in export_files(model, formats, **options):
                say(console, f"{result}")
